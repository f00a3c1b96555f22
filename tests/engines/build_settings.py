"""What a build needs of this machine to install from the network: pip's settings, certificates.

Any Python 3 runs it, without the app: ``python build_settings.py FOLDER`` writes ``pip.conf``,
``ca.crt`` and ``mounts`` (folders that ``pip.conf`` names, one a line) to the folder.
"""

import os
import ssl
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"  # where Debian keeps them
PLACES = ("index-url", "extra-index-url", "find-links")  # settings that may name folders
KEPT = (*PLACES, "trusted-host", "timeout", "default-timeout", "retries", "proxy")


def pip_settings() -> dict[str, str]:
    """What pip goes by, later ones first: settings of any file, then of the environment."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    settings: dict[str, str] = {}
    for line in sorted(listed.stdout.splitlines(), key=lambda line: line.startswith(":env:")):
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if key in KEPT and section in ("global", "install", ":env:"):
            settings[key] = value.strip("'\"").replace("\\n", " ")
    return settings


def local_folders(settings: dict[str, str]) -> list[Path]:
    """Folders of this machine among the places that pip installs from."""
    folders = set()
    for key in PLACES:
        for place in settings.get(key, "").split():
            url = urlsplit(place)
            path = Path(unquote(url.path))
            if url.scheme in ("", "file") and path.is_absolute() and path.exists():
                # the pages of an index link to files that lie beside it
                is_links = key == "find-links" and path.is_dir()
                folders.add(path if is_links else path.parent)
    return sorted(folders - {Path("/")})


def certificate_file() -> Path | None:
    """The file of certificates that this machine trusts, where it has one."""
    named = (os.environ.get("PIP_CERT"), os.environ.get("SSL_CERT_FILE"), CERTIFICATES)
    default = ssl.get_default_verify_paths().cafile
    files = (Path(name) for name in (*named, default) if name)
    return next((file for file in files if file.is_file()), None)


def write(folder: Path) -> None:
    """Write all three files; ``ca.crt`` is empty where this machine has no certificates."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = pip_settings()
    found = certificate_file()
    (folder / "ca.crt").write_bytes(found.read_bytes() if found else b"")
    lines = [f"{key} = {value}" for key, value in settings.items()]
    if found:
        lines.append(f"cert = {CERTIFICATES}")
    (folder / "pip.conf").write_text("\n".join(["[global]", *lines, ""]), encoding="utf-8")
    mounts = "".join(f"{path}\n" for path in local_folders(settings))
    (folder / "mounts").write_text(mounts, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
