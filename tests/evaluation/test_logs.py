"""Logs of trainings say how far and how long, and their names say of which network."""

from pathlib import Path

import pytest

from bids_deepmrseg.errors import InputDataError
from bids_deepmrseg.evaluation.logs import is_log, read_log

TEXT = "epoch\tstep\tloss\tmean_f1\telapsed_s\n1\t150\t1.5\t0.1\t60.5\n2\t300\t0.9\t0.4\t121\n"


def test_a_log_is_read_by_epoch(tmp_path: Path) -> None:
    file = tmp_path / "training_tiny_unet_coronal_repeat-1_fold-2.tsv"
    file.write_text(TEXT, encoding="utf-8")
    log = read_log(file)
    assert is_log(file)
    assert (log.task, log.family, log.view) == ("tiny", "unet", "coronal")
    assert (log.epochs, log.loss, log.mean_f1) == ((1, 2), (1.5, 0.9), (0.1, 0.4))
    assert (log.n_steps, log.training_s) == (300, 121)
    assert log.is_of_fold


def test_a_name_without_network_is_deepmrseg_and_may_lack_a_view(tmp_path: Path) -> None:
    file = tmp_path / "training_tiny_any-head.tsv"
    file.write_text(TEXT, encoding="utf-8")
    assert (read_log(file).family, read_log(file).view) == ("deepmrseg", "")
    assert not read_log(file).is_of_fold


@pytest.mark.parametrize("text", ["epoch\tstep\n1\t2\n", TEXT.partition("\n")[0] + "\n"])
def test_what_is_no_log_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "training_tiny.tsv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputDataError, match="no log of a training"):
        read_log(file)
