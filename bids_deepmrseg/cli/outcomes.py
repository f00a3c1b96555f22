"""What became of the cases of a run, told in few lines; all of it stands in the status table."""

import logging
import re
from collections import Counter

from bids_deepmrseg.records import Outcome
from bids_deepmrseg.settings import RunSettings
from bids_deepmrseg.stages.status import STATUS_FILE

logger = logging.getLogger(__name__)

MOST_LINES = 5  # on what one task skipped: a large dataset may have no FLAIR at all


def report(outcomes: tuple[Outcome, ...], settings: RunSettings) -> None:
    """Log why cases were skipped or failed, and how many were done.

    Parameters
    ----------
    outcomes
        Of all cases. Each failure is told by itself; what a task skipped, too, unless it is more
        than a few, which are then counted by their reason.
    settings
        Say where the status table is.
    """
    skipped = [one for one in outcomes if one.status == "skipped"]
    for task in dict.fromkeys(one.task for one in skipped):
        _report_skipped(task, [one for one in skipped if one.task == task])
    for one in outcomes:
        if one.status == "failed":
            logger.error("failed: %s %s: %s", _scan_of(one), one.task, one.reason)
    counts = Counter(one.status for one in outcomes)
    logger.info(
        "%d done, %d skipped, %d failed; %s",
        counts["done"],
        counts["skipped"],
        counts["failed"],
        settings.log_dir / STATUS_FILE,
    )


def _report_skipped(task: str, skipped: list[Outcome]) -> None:
    """Name what a task passed over: each with its reason, or how many for what kind of reason."""
    if len(skipped) <= MOST_LINES:
        for one in skipped:
            logger.warning("skipped: %s %s: %s", _scan_of(one), task, one.reason)
        return
    alike: dict[str, list[str]] = {}
    for one in skipped:
        alike.setdefault(re.split("[:;]", one.reason, maxsplit=1)[0], []).append(one.reason)
    kinds = sorted(alike.items(), key=lambda kind: -len(kind[1]))
    for beginning, reasons in kinds[:MOST_LINES]:
        said = reasons[0] if len(set(reasons)) == 1 else beginning
        logger.warning("skipped: %d for %s: %s", len(reasons), task, said)
    if rest := sum(len(reasons) for _, reasons in kinds[MOST_LINES:]):
        logger.warning("skipped: %d more for %s, for other reasons", rest, task)


def _scan_of(one: Outcome) -> str:
    """The scan of an outcome, or where it was looked for."""
    if one.source != "n/a":
        return one.source
    return "/".join(place for place in (one.participant_id, one.session_id) if place != "n/a")
