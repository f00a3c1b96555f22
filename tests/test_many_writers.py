"""Sixteen runs at once on one output folder, half of them killed: nothing is broken or lost."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bids_deepmrseg.files import read_json
from tests.commands import environment
from tests.storm import blow, faults_of, left_over, make_storm, undone


@pytest.mark.slow
def test_sixteen_writers_half_of_them_killed_leave_whole_files(tmp_path: Path) -> None:
    storm = make_storm(tmp_path, 6)
    told = blow(storm, 16, n_killed=8, latest_s=45, seed=1)
    assert told.complaints == []
    assert faults_of(storm) == []
    description = storm.out / "dataset_description.json"
    written_s = description.stat().st_mtime_ns
    again = [*storm.command(), "--n-procs", "2"]
    rest = subprocess.run(again, env=environment({}), capture_output=True, text=True, check=False)
    assert rest.returncode == 0, rest.stderr
    group = subprocess.run(storm.command(level="group"), env=environment({}), check=False)
    assert group.returncode == 0
    assert faults_of(storm) == []
    assert left_over(storm) == []
    assert undone(storm) == []
    assert description.stat().st_mtime_ns == written_s, "nothing about the dataset changed"
    assert read_json(description)["DatasetType"] == "derivative"
    validator = Path(sys.executable).with_name("bids-validator-deno")
    answer = subprocess.run(
        [validator, str(storm.out), "--json"], capture_output=True, text=True, check=False
    )
    assert json.loads(answer.stdout)["issues"]["issues"] == []
