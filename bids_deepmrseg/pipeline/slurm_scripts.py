"""The scripts of an array job: participants in shards, the group level, and what sends both."""

from collections.abc import Sequence
from pathlib import Path

from bids_deepmrseg.errors import OutputError
from bids_deepmrseg.files import write_text
from bids_deepmrseg.pipeline.slurm import ArraySize, SlurmChoice

PARTICIPANT_FILE = "participant.sbatch"
GROUP_FILE = "group.sbatch"
SUBMIT_FILE = "submit.sh"
LOGS_FOLDER = "logs"
SHEBANG = "#!/bin/bash"  # Slurm wants it in the first line
MARK = "# Written by bids-deepmrseg --write-slurm-array, which replaces files with this line."
INDEX = '--shard-index "${SLURM_ARRAY_TASK_ID:?send this script with sbatch, as submit.sh does}"'
WAIT = "trap : TERM  # at its end a job's processes are all told: wait for what the app has to say"
GROUP_MINUTES_PER_1000 = 2.0
GROUP_SHORTEST_MINUTES = 20
GROUP_GIB = 4
SHORT_OPTIONS = {
    "-A": "--account",
    "-a": "--array",
    "-c": "--cpus-per-task",
    "-e": "--error",
    "-J": "--job-name",
    "-o": "--output",
    "-p": "--partition",
    "-q": "--qos",
    "-t": "--time",
}
SAME_MATTER = {
    "--gpus": "--gres",
    "--gpus-per-node": "--gres",
    "--gpus-per-task": "--gres",
    "--mem-per-cpu": "--mem",
    "--mem-per-gpu": "--mem",
    "--no-requeue": "--requeue",
}
GOING_ON = ("--requeue", "--open-mode=append")
ARRAY_ONLY = {"--array", "--cpus-per-task", "--gres", "--mem", "--time"} | SAME_MATTER.keys()


def write_scripts(
    choice: SlurmChoice,
    size: ArraySize,
    *,
    command: Sequence[str],
    group_command: Sequence[str],
) -> Path:
    """Write the scripts, and return the one that sends the others.

    Parameters
    ----------
    choice
        Folder, partition, options.
    size
        What the array job asks for.
    command
        Words of the participant level, without shard: shell text that begins the app, then
        arguments, already quoted.
    group_command
        The same of the group level.

    Raises
    ------
    OutputError
        If the folder cannot be written, or holds a file of one of the names that was not written
        by this function.
    """
    texts = {
        PARTICIPANT_FILE: participant_script(choice, size, command),
        GROUP_FILE: group_script(choice, size, group_command),
        SUBMIT_FILE: submit_script(size),
    }
    for name in texts:
        _check_ours(choice.folder / name)
    try:
        (choice.folder / LOGS_FOLDER).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{choice.folder} cannot be made: {error}") from error
    for name, text in texts.items():
        write_text(choice.folder / name, text)
    submit = choice.folder / SUBMIT_FILE
    submit.chmod(0o755)
    return submit


def _check_ours(file: Path) -> None:
    """Refuse to replace a file that was not written here."""
    if not (file.exists() or file.is_symlink()):
        return
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    if MARK not in lines[:2]:
        raise OutputError(
            f"{file} is there and was not written by --write-slurm-array; "
            "give another folder, or move the file away"
        )


def participant_script(choice: SlurmChoice, size: ArraySize, command: Sequence[str]) -> str:
    """The array job: each of its tasks is one shard."""
    throttle = "" if choice.jobs_at_once is None else f"%{choice.jobs_at_once}"
    ours = {
        "--job-name": "deepmrseg",
        "--array": f"0-{size.n_shards - 1}{throttle}",
        "--cpus-per-task": str(size.n_procs),
        "--mem": f"{size.memory_gib}G",
        "--time": clock(size.limit_s),
        "--output": f"{LOGS_FOLDER}/%A_%a.out",
        **_placement(choice, gpus=choice.gpus),
    }
    shard = [f"--num-shards {size.n_shards}", INDEX]
    return _script(ours, choice.options, [*command, *shard])


def group_script(choice: SlurmChoice, size: ArraySize, command: Sequence[str]) -> str:
    """The job that gathers the tables; what asks for much is asked for the array only."""
    minutes = max(
        GROUP_SHORTEST_MINUTES, round(GROUP_MINUTES_PER_1000 * size.n_participants / 1000)
    )
    ours = {
        "--job-name": "deepmrseg-group",
        "--cpus-per-task": "1",
        "--mem": f"{GROUP_GIB}G",
        "--time": clock(60 * minutes),
        "--output": f"{LOGS_FOLDER}/%j_group.out",
        **_placement(choice, gpus=None),
    }
    options = tuple(one for one in choice.options if _name(one) not in ARRAY_ONLY)
    return _script(ours, options, command)


def submit_script(size: ArraySize) -> str:
    """Sends both; Slurm keeps relative paths of logs relative to where a script was sent from."""
    return f"""{SHEBANG}
{MARK}
# Options go to the array job: ./{SUBMIT_FILE} --array=3,7 runs two shards once more.
set -euo pipefail
cd "$(dirname "${{BASH_SOURCE[0]}}")"
mkdir -p {LOGS_FOLDER}
array=$(sbatch --parsable "$@" {PARTICIPANT_FILE})
array=${{array%%;*}}
group=$(sbatch --parsable --dependency="afterany:$array" {GROUP_FILE})
group=${{group%%;*}}
echo "participant level: array job $array, {size.n_shards} shards in all"
echo "group level: job $group, which starts when the last shard has ended"
"""


def _placement(choice: SlurmChoice, *, gpus: int | None) -> dict[str, str]:
    """Where jobs go."""
    placed = {} if choice.partition is None else {"--partition": choice.partition}
    return placed if gpus is None else {**placed, "--gres": f"gpu:{gpus}"}


def _script(ours: dict[str, str], options: Sequence[str], command: Sequence[str]) -> str:
    """A script for sbatch; of an option that the user gives, ours is left out."""
    given = {_name(one) for one in options}
    for other, name in SAME_MATTER.items():
        if other in given:
            given.add(name)
    lines = [f"#SBATCH {name}={value}" for name, value in ours.items() if name not in given]
    # a job whose node failed is put back and goes on where it stopped; its log goes on, too
    lines += [f"#SBATCH {name}" for name in GOING_ON if name.partition("=")[0] not in given]
    lines += [f"#SBATCH {option}" for option in options]
    body = " \\\n    ".join(command)  # the last command, so its exit code is that of the job
    return "\n".join([SHEBANG, MARK, *lines, "set -euo pipefail", WAIT, body, ""])


def _name(option: str) -> str:
    """Long name of an option of sbatch."""
    name = option.replace("=", " ").split()[0]
    return name if name.startswith("--") else SHORT_OPTIONS.get(name[:2], name)


def clock(seconds: int) -> str:
    """A time as Slurm reads it."""
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return (
        f"{days}-{hours:02d}:{minutes:02d}:{left:02d}"
        if days
        else f"{hours:02d}:{minutes:02d}:{left:02d}"
    )
