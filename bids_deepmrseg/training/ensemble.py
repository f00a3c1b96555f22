"""One model out of the networks of many folds."""

import shutil
from dataclasses import replace
from pathlib import Path

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.network.weights import (
    ModelMember,
    ModelRecord,
    View,
    read_record,
    verify,
    write_record,
)
from bids_deepmrseg.taskfiles import TASK_FILE


def gather_ensemble(
    models: tuple[Path, ...], folder: Path, *, views: tuple[View, ...] = (), flips: bool = False
) -> ModelRecord:
    """Copy the networks of several model folders of one task into one.

    Parameters
    ----------
    models
        Model folders, such as those of the folds of a cross-validation.
    folder
        Model folder to write. Networks lie in it as ``<view>_<number>.safetensors``, the first
        model's first view first: ``--fast`` runs that one alone.
    views
        Only these, in this order; as in the first model where empty.
    flips
        Whether the ensemble is to see mirror images too; its axial and coronal networks must
        have been trained on both.

    Returns
    -------
    ModelRecord
        What was written beside the networks. Figures measured with single models are not taken
        over: they are not the ensemble's.

    Raises
    ------
    UsageError
        If there is no model, or they are not alike: other labels, preparation or data.
    """
    records = [read_record(model) for model in models]
    if not records:
        raise UsageError("there is no model folder to make an ensemble of")
    first = records[0]
    for model, record in zip(models, records, strict=True):
        if _kind(record) != _kind(first):
            raise UsageError(f"{model} and {models[0]} differ in task, labels or training data")
        verify(model, record)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = views or tuple(dict.fromkeys(member.view for member in first.members))
    members = [
        _copy(model, member, folder, number)
        for view in wanted
        for number, (model, record) in enumerate(zip(models, records, strict=True), start=1)
        for member in record.members
        if member.view == view
    ]
    if len(members) != len(wanted) * len(models):
        raise UsageError(f"not every model has the views {', '.join(wanted)}")
    whole = replace(first, members=tuple(members), metrics=(), flips=flips)
    shutil.copyfile(models[0] / TASK_FILE, folder / TASK_FILE)
    write_record(folder, whole)
    return whole


def _kind(record: ModelRecord) -> ModelRecord:
    """What must be alike."""
    return replace(record, members=(), metrics=(), flips=False)


def _copy(model: Path, member: ModelMember, folder: Path, number: int) -> ModelMember:
    """One network's file under its new name."""
    copy = shutil.copyfile(model / member.file, folder / f"{member.view}_{number}.safetensors")
    return replace(member, file=copy.name)
