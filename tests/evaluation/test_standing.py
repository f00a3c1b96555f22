"""Every table says on how many repeats, people, epochs and seconds it stands."""

from dataclasses import replace

from bids_deepmrseg.evaluation.logs import TrainingLog
from bids_deepmrseg.evaluation.standing import standing
from tests.evaluation.made import make_fold, make_result

LOG = TrainingLog(
    task="made",
    name="any-head_axial",
    epochs=(1, 2, 3),
    loss=(3, 2, 1),
    mean_f1=(0, 0.5, 0.6),
    n_steps=4500,
    training_s=1234.5,
)


def test_people_scans_repeats_and_folds_are_counted() -> None:
    results = [
        replace(make_result(f"sub-0{n}", "Blob", 0.5, repeat=r, scan=f"sub-0{n}_run-{run}"), fold=n)
        for r in (1, 2)
        for n in (1, 2)
        for run in (1, 2)
    ]
    assert "DeepMRSeg: 2 repeats of 2 folds; 2 people, 4 scans; shown: all views." in standing(
        results
    )
    assert "(repeat 2: fewer folds)" in standing(results[:-2])


def test_structures_that_only_one_map_has_are_counted_as_missed() -> None:
    seen, missed = (
        make_result("sub-01", name, 0.5, volume_ml=volume_ml, reference_volume_ml=1)
        for name, volume_ml in (("Left Blob", 1.0), ("Right Blob", 0.0))
    )
    assert "missed 1 structure of 2;" in standing([seen, missed])
    assert "missed" not in standing([seen])


def test_trainings_of_the_folds_are_summed() -> None:
    folds = (make_fold(), replace(make_fold(fold=2), n_training_scans=7, training_s=38.5))
    text = standing([make_result("sub-01", "Blob", 0.5)], folds)
    assert "trained 2 times (axial; recipe manual-outlines; 123,456 parameters;" in text
    assert "6 to 7 training scans), each time 30 epochs, 900 steps and 38 to 62 s" in text
    assert "(median 50 s); 100 s in all" in text


def test_a_model_that_was_trained_once_stands_on_its_logs() -> None:
    text = standing([make_result("sub-01", "Blob", 0.5)], (), (LOG,))
    assert "1 repeat of 1 fold; 1 person, 1 scan" in text
    assert "any-head axial 3 epochs, 4,500 steps, 1,234 s" in text


def test_what_is_not_known_is_said() -> None:
    assert "was not recorded" in standing([make_result("sub-01", "Blob", 0.5)])
