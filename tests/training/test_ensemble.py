"""Laws of gathering networks into one model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bids_deepmrseg.errors import UsageError, WeightsError
from bids_deepmrseg.network.weights import Metric, read_record, verify, write_record
from bids_deepmrseg.stages.prepare import prepare
from bids_deepmrseg.stages.segment import segment
from bids_deepmrseg.training.ensemble import gather_ensemble
from tests.makers import make_case, make_dataset, make_model_folder, make_task

TASK = make_task()


def _models(root: Path, n: int = 3) -> tuple[Path, ...]:
    return tuple(make_model_folder(root / str(seed), TASK, seed=seed) for seed in range(n))


def test_probabilities_are_the_mean_of_the_models(tmp_path: Path) -> None:
    models = _models(tmp_path)
    gather_ensemble(models, tmp_path / "all" / TASK.name)
    dataset = make_dataset(tmp_path / "bids", ("sub-01_T1w.nii.gz",))
    prepared = prepare(make_case(dataset, "sub-01_T1w.nii.gz", task=TASK))
    alone = [segment(prepared, m, TASK, device="cpu").probabilities for m in models]
    together = segment(prepared, tmp_path / "all" / TASK.name, TASK, device="cpu").probabilities
    np.testing.assert_allclose(together, np.mean(alone, axis=0), atol=1e-6)


def test_the_ensemble_is_whole_and_claims_no_figures_of_its_parts(tmp_path: Path) -> None:
    models = _models(tmp_path)
    first = read_record(models[0])
    write_record(models[0], replace(first, metrics=(Metric("mean F1", 0.9),)))
    gather_ensemble(models, tmp_path / "all", flips=True)
    record = read_record(tmp_path / "all")
    verify(tmp_path / "all", record)
    assert len(record.members) == 3 * len(first.members)
    assert [m.view for m in record.members[:3]] == [first.members[0].view] * 3
    assert record.metrics == ()
    assert record.flips
    assert record.attribution == first.attribution


def test_only_the_views_asked_for(tmp_path: Path) -> None:
    models = _models(tmp_path)
    view = read_record(models[0]).members[0].view
    record = gather_ensemble(models, tmp_path / "all", views=(view,))
    assert [m.view for m in record.members] == [view] * 3
    with pytest.raises(UsageError, match="not every model"):
        gather_ensemble(models, tmp_path / "none", views=("sagittal",))


def test_models_of_other_data_or_damaged_ones_are_refused(tmp_path: Path) -> None:
    models = _models(tmp_path, 2)
    write_record(models[1], replace(read_record(models[1]), training_data="others"))
    with pytest.raises(UsageError, match="differ"):
        gather_ensemble(models, tmp_path / "all")
    weights = models[0] / read_record(models[0]).members[0].file
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match="damaged"):
        gather_ensemble(models[:1], tmp_path / "all")
    with pytest.raises(UsageError, match="no model"):
        gather_ensemble((), tmp_path / "all")
