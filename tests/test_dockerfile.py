"""What the Dockerfile says, as far as it can be told without building it; more in engines/."""

import json
import re
from pathlib import Path

from bids_deepmrseg.files import read_json

REPOSITORY = Path(__file__).resolve().parents[1]
RECIPE = (REPOSITORY / "Dockerfile").read_text("utf-8").replace("\\\n", " ")


def lines(instruction: str) -> list[str]:
    return re.findall(rf"^{instruction}\s+(.*)$", RECIPE, re.MULTILINE)


def test_no_frontend_is_fetched_and_the_base_can_be_chosen() -> None:
    assert not re.search(r"^#\s*syntax", RECIPE, re.MULTILINE | re.IGNORECASE)
    assert lines("ARG")[0] == "BASE_IMAGE=python:3.11-slim"
    assert {line.split(" AS ")[0] for line in lines("FROM")} == {"${BASE_IMAGE}"}


def test_the_image_starts_the_app_under_an_init_as_nobody() -> None:
    (entry,) = lines("ENTRYPOINT")
    init, *_, app = json.loads(entry)
    assert (init, app) == ("/usr/bin/tini", "/opt/deepmrseg/bin/bids-deepmrseg")
    assert lines("USER") == ["65534:65534"]
    (health,) = lines("HEALTHCHECK")
    assert json.loads(health.partition("CMD ")[2]) == [app, "--version"]


def test_the_label_names_the_licences_of_the_code_and_of_all_weights() -> None:
    (label,) = re.findall(r'image\.licenses="([^"]*)"', RECIPE)
    models = (REPOSITORY / "bids_deepmrseg" / "data" / "models").glob("*/model.json")
    assert set(label.split(" AND ")) == {"Apache-2.0", *(read_json(m)["license"] for m in models)}


def test_the_version_is_not_written_a_second_time() -> None:
    version = (REPOSITORY / "version").read_text("utf-8").strip()
    assert version not in RECIPE
    assert 'image.version="${VERSION:-unknown}"' in RECIPE


def test_a_build_sees_only_what_is_listed() -> None:
    listed = (REPOSITORY / ".dockerignore").read_text("utf-8").splitlines()
    assert listed[1] == "*"
    copied = {name for line in lines("COPY") for name in line.split()[:-1]}
    shown = {line[1:] for line in listed if line.startswith("!")}
    assert shown == {name for name in copied if not name.startswith(("--from", "/"))}
