"""``deepmrseg-train``: flags to settings, one call, a progress bar."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from bids_deepmrseg.errors import DeepMRSegError, UsageError

if TYPE_CHECKING:
    from bids_deepmrseg.training.loop import EpochLog
    from bids_deepmrseg.training.run import Listener, TrainSettings


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    p = argparse.ArgumentParser(
        prog="deepmrseg-train",
        description="Train the networks of a task and write a model folder. A run that was "
        "stopped goes on from its last checkpoint when the same command is given again.",
    )
    add_shared_flags(p)
    p.add_argument(
        "--exclude",
        nargs="+",
        default=[],
        metavar="SUB",
        help="subjects never to be read, such as a test fold",
    )
    p.add_argument(
        "--view",
        nargs="+",
        metavar="VIEW",
        help="train only these of the recipe's views now, so that several processes can share the "
        "work; the same command without --view then writes the model folder",
    )
    p.add_argument(
        "--start-from",
        type=Path,
        metavar="MODEL",
        help="model folder whose networks are trained further, instead of random ones",
    )
    return p


def add_shared_flags(p: argparse.ArgumentParser) -> None:
    """Flags that training once and cross-validation have in common."""
    p.add_argument("task", help="name of a known task, or a task file (TOML)")
    p.add_argument(
        "labelled",
        type=Path,
        metavar="LABELLED",
        help="BIDS dataset with label maps beside its scans or below derivatives/",
    )
    p.add_argument("output", type=Path, help="folder for corpus, checkpoints, logs and models")
    p.add_argument(
        "--recipe",
        default="own-task",
        metavar="NAME",
        help="own-task (default): labelled scans are enough; paper: the paper's configuration, a "
        "hundred epochs; any-head: also synthetic heads from --head-maps; manual-outlines: goes "
        "on from any-head; place: for crops around one structure; or a TOML file of your own",
    )
    p.add_argument(
        "--head-maps",
        type=Path,
        metavar="DIR",
        help="whole-head label maps, FreeSurfer numbers, for synthetic heads",
    )
    p.add_argument(
        "--exclude-maps",
        nargs="+",
        default=[],
        metavar="NAME",
        help="label maps never to be read, such as head-17, kept for testing",
    )
    p.add_argument(
        "--reference",
        default="dseg",
        metavar="ENDING",
        help="suffix of label maps and entities in their names: dseg, mask, label-lesion_mask, "
        "desc-manual_dseg; default %(default)s. Maps with seg- or with the space- of a template "
        "are taken only if that is named here",
    )
    p.add_argument(
        "--models-dir",
        type=Path,
        metavar="DIR",
        help="where to look for model folders first, as that of the task that shows the places",
    )
    p.add_argument(
        "--corpus",
        type=Path,
        metavar="DIR",
        help="where prepared volumes are kept; runs of one task, recipe and seed can share it; "
        "default OUTPUT/corpus",
    )
    p.add_argument(
        "--data-card",
        type=Path,
        metavar="FILE",
        help="TOML with training_data, license and attribution, which the model's record and every "
        "result then tell; without it they say 'not stated'",
    )
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    p.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto")
    p.add_argument(
        "--compile", action="store_true", help="compile the network first (needs a C++ compiler)"
    )
    p.add_argument("--n-procs", type=int, default=os.cpu_count() or 1, help="for the corpus")


def main(argv: Sequence[str] | None = None) -> int:
    """Train, and return the exit code."""
    arguments = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    from bids_deepmrseg.pipeline.environment import passing_folder

    try:
        with passing_folder(arguments.output):
            from bids_deepmrseg.training.run import run_training

            settings = settings_from(arguments)
            bars = ProgressBars()
            folder = run_training(settings, bars.listener())
    except DeepMRSegError as error:
        print(f"deepmrseg-train: {error}", file=sys.stderr)
        return error.exit_code
    print(f"model folder: {folder}\ntraining logs: {settings.output_dir / 'training'}")
    return os.EX_OK


def settings_from(arguments: argparse.Namespace) -> "TrainSettings":
    """Training settings from parsed flags."""
    from bids_deepmrseg.stages.segment import pick_device
    from bids_deepmrseg.taskfiles import TASK_FILE, find_locator, find_named_model_folder, read_task
    from bids_deepmrseg.training.recipe import fit_recipe, read_recipe
    from bids_deepmrseg.training.run import (
        DataCard,
        TrainSettings,
        pick_precision,
        read_data_card,
    )

    own = Path(arguments.task)
    is_file = own.suffix == ".toml" or own.is_file()
    task_file = (
        own
        if is_file
        else find_named_model_folder(arguments.task, arguments.models_dir) / TASK_FILE
    )
    task = read_task(task_file)
    recipe = fit_recipe(read_recipe(arguments.recipe), task)
    device = pick_device(arguments.device)
    wanted = arguments.view or recipe.views
    if unknown := [view for view in wanted if view not in recipe.views]:
        raise UsageError(f"recipe {recipe.name} has no view {unknown[0]}")
    return TrainSettings(
        task=task,
        task_file=task_file,
        recipe=recipe,
        views=tuple(view for view in recipe.views if view in wanted),
        start_dir=arguments.start_from,
        labelled_dir=arguments.labelled,
        reference=arguments.reference,
        head_maps_dir=arguments.head_maps,
        excluded=tuple(f"sub-{s.removeprefix('sub-')}" for s in arguments.exclude),
        excluded_maps=tuple(arguments.exclude_maps),
        locator=find_locator(task, arguments.models_dir),
        corpus_dir=arguments.corpus or arguments.output / "corpus",
        output_dir=arguments.output,
        card=read_data_card(arguments.data_card) if arguments.data_card else DataCard(),
        seed=arguments.seed,
        device=device,
        precision=pick_precision(arguments.precision, device),
        compiled=arguments.compile,
        n_procs=arguments.n_procs,
        models_dir=arguments.models_dir,
    )


class ProgressBars:
    """One bar for the corpus, then one per view, each with the time left."""

    def __init__(self) -> None:
        self._bar: tqdm[None] | None = None

    def listener(self) -> "Listener":
        """What training reports to."""
        from bids_deepmrseg.training.run import Listener

        return Listener(self._corpus, self._view, self._step, self._epoch)

    def _corpus(self, done: int, n: int) -> None:
        if self._bar is None:
            self._bar = tqdm(total=n, desc="corpus", unit="volume", file=sys.stderr)
        self._bar.n = done
        self._bar.refresh()

    def _view(self, view: str, n_steps: int) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = tqdm(total=n_steps, desc=view, unit="step", file=sys.stderr, mininterval=5)

    def _step(self, done: int) -> None:
        if self._bar is not None:
            self._bar.update(done - self._bar.n)

    def _epoch(self, log: "EpochLog") -> None:
        if self._bar is not None:
            self._bar.set_postfix(epoch=log.epoch, loss=f"{log.loss:.3f}", f1=f"{log.mean_f1:.3f}")


def entry() -> None:
    """Console script."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
