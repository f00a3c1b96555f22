"""A child's death, error or lack of memory becomes a sentence; the parent goes on."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bids_deepmrseg.errors import DeepMRSegError, InputDataError, ResourceError
from bids_deepmrseg.pipeline.child import THREAD_VARIABLES, run_in_child
from tests.commands import is_alive


def call(target: object, *arguments: object) -> object:
    return run_in_child(target, *arguments, name="sub-01_T1w tiny", n_threads=3, memory_gb=4.25)  # type: ignore[arg-type] # any function


def add(a: int, b: int) -> int:
    return a + b


def die_by(number: int) -> None:
    os.kill(os.getpid(), number)


def hold_and_die(size_mb: int) -> None:
    held = bytearray(os.urandom(1024) * 1024 * size_mb)
    time.sleep(0.5)
    die_by(signal.SIGKILL if held else signal.SIGTERM)


def own_oom_score() -> int:
    return int(Path("/proc/self/oom_score_adj").read_text(encoding="ascii"))


def leave() -> None:
    os._exit(7)


def refuse(sentence: str) -> None:
    raise InputDataError(sentence)


def stumble() -> None:
    raise KeyError("affine")


def ask_for_too_much(sentence: str) -> None:
    raise RuntimeError(sentence) if sentence else MemoryError


def thread_limits() -> list[str | None]:
    return [os.environ.get(variable) for variable in THREAD_VARIABLES]


def own_process() -> int:
    return os.getpid()


def sleep_long(note: Path) -> None:
    note.with_suffix(".tmp").write_text(str(os.getpid()), encoding="utf-8")
    note.with_suffix(".tmp").replace(note)
    time.sleep(120)


def test_a_value_comes_back() -> None:
    assert call(add, 2, 3) == 5


def test_the_function_runs_in_another_process_with_its_threads_limited() -> None:
    before = dict(os.environ)
    assert call(own_process) != os.getpid()
    assert call(thread_limits) == ["3", "3", "3"]
    assert dict(os.environ) == before


def test_a_child_that_is_killed_becomes_a_sentence_about_memory() -> None:
    with pytest.raises(ResourceError) as caught:
        call(hold_and_die, 300)
    sentence = str(caught.value)
    assert "process of sub-01_T1w tiny was killed by signal 9 (SIGKILL)" in sentence
    assert "about 4.2 GB are needed" in sentence
    found = re.search(r"it held (\d\.\d) GB when last seen", sentence)
    assert found is not None
    assert 0.3 <= float(found[1]) < 1.5


def test_the_kernel_is_to_take_the_child_before_its_parent() -> None:
    own = int(Path("/proc/self/oom_score_adj").read_text(encoding="ascii"))
    assert call(own_oom_score) == min(own + 500, 1000)


def test_another_signal_is_named_and_memory_is_not_blamed() -> None:
    with pytest.raises(ResourceError, match="killed by signal 11") as caught:
        call(die_by, signal.SIGSEGV)
    assert "memory" not in str(caught.value)


def test_a_child_that_leaves_without_an_answer_is_told() -> None:
    with pytest.raises(ResourceError, match="ended with code 7 and no answer"):
        call(leave)


def test_our_errors_keep_class_and_sentence() -> None:
    with pytest.raises(InputDataError, match=r"^sub-01 is empty; copy it again$"):
        call(refuse, "sub-01 is empty; copy it again")


def test_other_errors_are_described_and_keep_their_traceback_as_a_note() -> None:
    with pytest.raises(DeepMRSegError, match="an unexpected KeyError stopped it") as caught:
        call(stumble)
    assert any("in stumble" in note for note in caught.value.__notes__)


@pytest.mark.parametrize(
    "sentence",
    ["", "CUDA out of memory. Tried to allocate", "DefaultCPUAllocator: can't allocate memory"],
)
def test_a_lack_of_memory_is_a_matter_of_resources(sentence: str) -> None:
    with pytest.raises(ResourceError, match="not enough memory"):
        call(ask_for_too_much, sentence)


def test_no_child_outlives_a_parent_that_was_killed(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    script = tmp_path / "parent.py"
    script.write_text(
        "from pathlib import Path\n"
        "from bids_deepmrseg.pipeline.child import run_in_child\n"
        "from tests.pipeline.test_child import sleep_long\n"
        "if __name__ == '__main__':\n"
        f"    run_in_child(sleep_long, Path({str(note)!r}), name='x', n_threads=1, memory_gb=1)\n",
        encoding="utf-8",
    )
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    parent = subprocess.Popen([sys.executable, str(script)], env=environment)
    try:
        wait_for(note.exists)
        child = int(note.read_text(encoding="utf-8"))
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: not is_alive(child))


def test_a_script_without_a_guard_runs_once(tmp_path: Path) -> None:
    """Such as those that nipype's plugins for clusters hand in."""
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from bids_deepmrseg.pipeline.child import run_in_child\n"
        "from tests.pipeline.test_child import add\n"
        "print('sum', run_in_child(add, 2, 3, name='x', n_threads=1, memory_gb=1))\n"
        "print(__file__, __spec__)\n",
        encoding="utf-8",
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(script)]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert printed.stdout.splitlines() == ["sum 5", f"{script} None"]


def wait_for(condition: object, limit_s: float = 60) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():  # type: ignore[operator] # any function without arguments
        assert time.monotonic() < end_s, "waited too long"
        time.sleep(0.1)
