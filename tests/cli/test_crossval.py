"""Laws of the flags of cross-validation, merging and ensembles."""

from pathlib import Path

import pytest

from bids_deepmrseg.cli.crossval import protocol_from
from bids_deepmrseg.cli.evaluate import main, parser
from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.network.weights import VIEWS
from bids_deepmrseg.training.crossval import Protocol
from tests.makers import make_model_folder, make_task, task_toml

CARD = 'training_data = "a"\nlicense = "b"\nattribution = "c"\n'


def _protocol(tmp_path: Path, *flags: str) -> Protocol:
    task_file = tmp_path / "task.toml"
    task_file.write_text(task_toml(make_task()), encoding="utf-8")
    (tmp_path / "card.toml").write_text(CARD, encoding="utf-8")
    given = ("crossval", str(task_file), str(tmp_path / "data"), str(tmp_path / "runs"))
    card = ("--data-card", str(tmp_path / "card.toml"), "--device", "cpu")
    return protocol_from(parser().parse_args([*given, *card, "--recipe", "place", *flags]))


def test_plain_flags_ask_for_both_networks_on_all_folds_of_one_repeat(tmp_path: Path) -> None:
    protocol = _protocol(tmp_path)
    assert protocol.networks == ("deepmrseg", "unet")
    assert (protocol.n_folds, protocol.folds, protocol.repeats) == (4, (1, 2, 3, 4), (1,))
    assert protocol.training.excluded == ()
    assert protocol.training.start_dir is None
    assert protocol.variants
    assert protocol.training.corpus_dir == tmp_path / "runs" / "corpus"
    assert protocol.training.views == protocol.training.recipe.views


def test_a_piece_is_some_folds_of_some_repeats_and_views(tmp_path: Path) -> None:
    flags = ("--repeats", "20", "--only-repeat", "7", "--only-fold", "3", "2", "--view", "axial")
    protocol = _protocol(tmp_path, "--network", "unet", "--no-variants", *flags)
    assert not protocol.variants
    assert protocol.networks == ("unet",)
    assert (protocol.repeats, protocol.folds, protocol.n_folds) == ((7,), (2, 3), 4)
    assert protocol.training.views == ("axial",)


@pytest.mark.parametrize("flags", [("--only-fold", "5"), ("--only-repeat", "2")])
def test_folds_and_repeats_that_are_not_there_are_refused(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError, match="they go from 1 to"):
        _protocol(tmp_path, *flags)


def test_groups_come_from_a_table(tmp_path: Path) -> None:
    table = tmp_path / "groups.tsv"
    table.write_text("participant_id\tgroup\nsub-2\ta\nsub-1\ta\nsub-9\tb\n", encoding="utf-8")
    assert _protocol(tmp_path, "--groups", str(table)).groups == (("sub-1", "sub-2"), ("sub-9",))
    table.write_text("participant_id\nsub-2\n", encoding="utf-8")
    with pytest.raises(UsageError, match="lacks the column group"):
        _protocol(tmp_path, "--groups", str(table))


def test_the_views_offered_are_those_that_networks_have() -> None:
    arguments = parser().parse_args(["ensemble", "a", "b", "--into", "c", "--view", *VIEWS])
    assert arguments.view == list(VIEWS)


def test_an_ensemble_is_made_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [str(make_model_folder(tmp_path / str(seed), seed=seed)) for seed in (0, 1)]
    assert main(["ensemble", *models, "--into", str(tmp_path / "all")]) == 0
    assert "2 networks" in capsys.readouterr().out
    assert main(["merge", str(tmp_path), "--into", str(tmp_path / "x")]) != 0
    assert "no finished fold" in capsys.readouterr().err
