"""Cases get devices in turn; what happens to a worker is the matter of the case that it had."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from pathlib import Path

import pytest

from bids_deepmrseg.errors import DeepMRSegError, InputDataError, ResourceError
from bids_deepmrseg.pipeline.asking import NetworksOfRun, Opener, socket_of
from bids_deepmrseg.pipeline.workers import N_FAILURES_IN_A_ROW, Workers
from tests.commands import is_alive
from tests.pipeline.made_networks import Broken, Obedient, told, wait_for

DEVICES = ("cuda:0", "cuda:1")


def start(*devices: str, opener: Opener = Obedient) -> Workers:
    return Workers(devices, n_threads=1, opener=opener)


@pytest.fixture
def workers() -> Iterator[Workers]:
    with start(*DEVICES) as made:
        yield made


def ask(workers: Workers, order: str, folder: Path = Path(), name: str = "sub-01_T1w tiny") -> str:
    """The device that answered, and its process."""
    return NetworksOfRun(workers.address, name).ask(told(order, folder)).device


def test_equal_cases_are_spread_evenly_and_processes_stay(workers: Workers) -> None:
    answers = [ask(workers, "answer") for _ in range(10)]
    assert len(set(answers)) == 2
    assert [answer.split()[0] for answer in answers] == [*DEVICES] * 5


def test_devices_work_at_the_same_time(workers: Workers, tmp_path: Path) -> None:
    """Each waits until the other one is at work, too."""
    with ThreadPoolExecutor(2) as pool:
        answers = set(pool.map(lambda _: ask(workers, "meet", tmp_path), range(2)))
    assert {answer.split()[0] for answer in answers} == {*DEVICES}


def test_who_comes_first_is_served_first(tmp_path: Path) -> None:
    served: list[str] = []

    def case(one_device: Workers, name: str) -> None:
        ask(one_device, "wait" if name == "first" else "answer", tmp_path, name)
        served.append(name)

    with start("cuda:0") as one_device, ThreadPoolExecutor(4) as pool:
        pool.submit(case, one_device, "first")
        assert wait_for((tmp_path / "waits").exists)
        for n_before, name in enumerate(("second", "third", "fourth")):
            pool.submit(case, one_device, name)
            assert wait_for(partial(waits, one_device, n_before + 1))
        (tmp_path / "go on").touch()
    assert sorted(served) == ["first", "fourth", "second", "third"]
    assert served.index("second") < served.index("fourth")


def waits(workers: Workers, n_waiting: int) -> bool:
    return workers.n_waiting == n_waiting


@pytest.mark.parametrize(
    ("order", "sentence"),
    [("die", "was killed by signal 9 (SIGKILL)"), ("leave", "ended with code 3")],
)
def test_a_worker_that_dies_fails_its_case_only(
    workers: Workers, order: str, sentence: str
) -> None:
    first, second = (ask(workers, "answer") for _ in DEVICES)
    with pytest.raises(ResourceError) as caught:
        ask(workers, order, name="sub-07_T1w tiny")
    assert f"the process that runs the networks on cuda:0 {sentence}" in str(caught.value)
    assert "while it had sub-07_T1w tiny" in str(caught.value)
    assert ("GB is the limit here" in str(caught.value)) is (order == "die")
    again = {ask(workers, "answer") for _ in range(4)}
    assert len(again) == 2
    assert second in again
    assert first not in again


def test_a_worker_that_dies_without_a_case_fails_none(workers: Workers) -> None:
    processes = [int(ask(workers, "answer").split()[1]) for _ in DEVICES]
    os.kill(processes[0], signal.SIGKILL)
    assert wait_for(lambda: not is_alive(processes[0]))
    first, second = (ask(workers, "answer") for _ in DEVICES)
    assert first.startswith("cuda:0")
    assert second == f"cuda:1 {processes[1]}"


def test_errors_of_a_case_keep_class_sentence_and_worker(workers: Workers) -> None:
    before = {ask(workers, "answer") for _ in DEVICES}
    for _ in range(2 * N_FAILURES_IN_A_ROW):
        with pytest.raises(InputDataError, match=r"^the scan is empty; copy it again$"):
            ask(workers, "refuse")
    assert {ask(workers, "answer") for _ in DEVICES} == before


@pytest.mark.parametrize(
    ("order", "error", "sentence"),
    [
        ("stumble", DeepMRSegError, "^on cuda:0, an unexpected KeyError stopped it"),
        ("starve", ResourceError, "^on cuda:0, there was not enough memory"),
        ("run short", ResourceError, "memory of cuda:0 did not suffice"),
    ],
)
def test_a_process_that_may_be_spoilt_makes_way_for_a_fresh_one(
    workers: Workers, order: str, error: type[DeepMRSegError], sentence: str
) -> None:
    first = ask(workers, "answer")
    second = ask(workers, "answer")
    with pytest.raises(error, match=sentence) as caught:
        ask(workers, order)
    if order != "run short":
        assert any("in ask" in note for note in caught.value.__notes__)
    again = {ask(workers, "answer") for _ in range(4)}
    assert len(again) == 2
    assert again & {first, second} == {second}


def test_a_device_that_always_fails_gets_no_more_cases_while_there_are_others(
    workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(N_FAILURES_IN_A_ROW):
        with pytest.raises(ResourceError):
            ask(workers, "die")
        assert ask(workers, "answer").startswith("cuda:1")
    assert "cuda:0 failed 3 times in a row and gets no more cases" in caplog.text
    assert {ask(workers, "answer").split()[0] for _ in range(3)} == {"cuda:1"}


def test_the_last_device_is_tried_again_and_again() -> None:
    with start("cuda:0") as workers:
        for _ in range(N_FAILURES_IN_A_ROW + 1):
            with pytest.raises(ResourceError):
                ask(workers, "die")
        assert ask(workers, "answer").startswith("cuda:0")


def test_a_device_that_cannot_be_opened_is_told_to_each_case() -> None:
    with start("cuda:5", opener=Broken) as workers:
        for _ in range(2):
            with pytest.raises(DeepMRSegError, match="cuda:5 is busy or unavailable"):
                ask(workers, "answer")


def test_strangers_get_nothing_and_disturb_nobody(workers: Workers) -> None:
    with pytest.raises(AuthenticationError):
        Client(socket_of(workers.address), family="AF_UNIX", authkey=b"guessed")
    Client(socket_of(workers.address), family="AF_UNIX").close()
    silent = Client(socket_of(workers.address), family="AF_UNIX")
    assert {ask(workers, "answer").split()[0] for _ in DEVICES} == {*DEVICES}
    silent.close()


def test_a_case_that_ends_while_it_has_a_device_leaves_it_to_the_next() -> None:
    key = multiprocessing.current_process().authkey
    with start("cuda:0") as workers:
        for n_words in (1, 2):
            with Client(socket_of(workers.address), family="AF_UNIX", authkey=key) as gone:
                gone.send("sub-01_T1w tiny")
                if n_words > 1:
                    assert gone.recv() == "cuda:0"
        assert ask(workers, "answer").startswith("cuda:0")


def test_the_end_of_a_run_ends_its_workers_and_is_told_to_those_who_wait(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        with start("cuda:0") as workers:
            process = int(ask(workers, "answer").split()[1])
            waiting: list[Future[str]] = []
            for n_waiting in (0, 1):
                waiting.append(pool.submit(ask, workers, "wait", tmp_path))
                assert wait_for((tmp_path / "waits").exists)
                assert wait_for(partial(waits, workers, n_waiting))
        for one in waiting:
            assert isinstance(one.exception(60), ResourceError)
    assert not is_alive(process)
    with pytest.raises(ResourceError, match="the run that sub-01_T1w tiny belongs to cannot be"):
        ask(workers, "answer")
    assert not [one for one in threading.enumerate() if one.name == "devices"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_a_run_that_was_killed(tmp_path: Path, number: int) -> None:
    note = tmp_path / "pids"
    script = tmp_path / "run.py"
    script.write_text(
        "from pathlib import Path\n"
        "import time\n"
        "from tests.pipeline.test_workers import ask, start\n"
        "if __name__ == '__main__':\n"
        "    with start('cuda:0', 'cuda:1') as workers:\n"
        "        pids = [ask(workers, 'answer').split()[1] for _ in range(2)]\n"
        f"        Path({str(note)!r}).write_text(' '.join(pids) + ' .', encoding='utf-8')\n"
        "        time.sleep(120)\n",
        encoding="utf-8",
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    run = subprocess.Popen([sys.executable, str(script)], env=environment)
    try:
        assert wait_for(lambda: note.exists() and note.read_text("utf-8").endswith("."))
        processes = [int(word) for word in note.read_text("utf-8").split()[:2]]
        assert all(is_alive(one) for one in processes)
        run.send_signal(number)
    finally:
        run.kill()
        run.wait()
    assert wait_for(lambda: not any(is_alive(one) for one in processes))
