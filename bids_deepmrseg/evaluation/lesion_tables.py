"""Markdown tables of lesions found and made up, from per-case results."""

from collections.abc import Iterator, Sequence

import pandas as pd

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.evaluation.lesion_results import LesionResult
from bids_deepmrseg.evaluation.lesionwise import ALL_SIZES
from bids_deepmrseg.evaluation.summary import (
    NETWORKS,
    frame_of,
    headline,
    in_order,
    spread,
)
from bids_deepmrseg.evaluation.tables import markdown, spread_cell

SCORES = ["recall", "precision", "f1"]
MEASURED = [*SCORES, "volume_difference_percent"]
SHOWN = ("recall", "precision", "F1", "volume difference (%)")
BY_SIZE = ("lesions", "network", "found / reference", "true / segmented", *SHOWN)
BY_SCAN = ("scan", "network", "lesions / reference", *SHOWN, "volume / reference (ml)")


def lesion_text(results: Sequence[LesionResult]) -> str:
    """Both tables of one file of results, each with its sentence.

    Parameters
    ----------
    results
        Of any number of networks; of each, :func:`~.summary.headline` is shown.

    Raises
    ------
    UsageError
        If lesions were matched by several rules, or there is no result.
    """
    below = "By scan, lesions of every size, means over repeats:"
    return "\n\n".join([lesion_text_by_size(results), below, lesion_scan_table(headline(results))])


def lesion_text_by_size(results: Sequence[LesionResult]) -> str:
    """The first of these tables, behind the rule by which lesions were matched."""
    shown = headline(results)
    above = "By size, means over scans; lesions are counted over all scans and repeats:"
    return "\n\n".join([_rule(shown), above, lesion_size_table(shown)])


def lesion_size_table(results: Sequence[LesionResult]) -> str:
    """A row per class of size and network; a scan's value is its mean over repeats."""
    frame = frame_of(results)
    sizes = list(dict.fromkeys(result.size for result in results))
    rows: list[tuple[str, ...]] = []
    for size in sizes:
        title = f"**{size}**" if size == ALL_SIZES else size
        for network, part in _by_network(frame[frame["size"] == size]):
            counts = part[["n_found", "n_reference", "n_true", "n_segmented"]].sum()
            rows.append(
                (
                    title,
                    network,
                    f"{counts['n_found']} / {counts['n_reference']}",
                    f"{counts['n_true']} / {counts['n_segmented']}",
                    *lesion_cells(part),
                )
            )
    return markdown(BY_SIZE, rows)


def lesion_scan_table(results: Sequence[LesionResult]) -> str:
    """A row per scan and network, lesions of every size together."""
    frame = frame_of([result for result in results if result.size == ALL_SIZES])
    rows: list[tuple[str, ...]] = []
    for network, part in _by_network(frame):
        for scan, own in part.groupby("scan", sort=False):
            mean = own[["n_segmented", "n_reference", "volume_ml", "reference_volume_ml"]].mean()
            rows.append(
                (
                    str(scan),
                    network,
                    f"{mean['n_segmented']:.4g} / {mean['n_reference']:.4g}",
                    *lesion_cells(own),
                    f"{mean['volume_ml']:.2f} / {mean['reference_volume_ml']:.2f}",
                )
            )
    return markdown(BY_SCAN, rows)


def _rule(results: Sequence[LesionResult]) -> str:
    """When lesions were matched, and what follows for reading the tables."""
    shares = sorted({result.least_share for result in results})
    if len(shares) != 1:
        raise UsageError(
            f"a table needs results of lesions that were matched by one rule, not by {len(shares)}"
        )
    least = "any" if shares[0] == 0 else f"at least {100 * shares[0]:g} %"
    n_scans = len({result.scan for result in results})
    n_people = len({result.subject for result in results})
    return (
        f"{n_scans} scans of {n_people} subjects. A lesion of the reference is found, and a "
        f"segmented one is true, where {least} of its voxels lie in the other mask; voxels that "
        "touch by a face, an edge or a corner are one lesion. Each lesion is in the class of its "
        "own volume."
    )


def _by_network(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each network, by the name that tables give it."""
    for network in in_order(frame["network"]):
        yield NETWORKS.get(network, network), frame[frame["network"] == network]


def lesion_cells(rows: pd.DataFrame) -> Iterator[str]:
    """Recall, precision, F1 and difference of volumes, as means over scans."""
    by_scan = rows.groupby("scan", sort=False)[MEASURED].mean()
    missing = rows[MEASURED].isna().sum()
    for name in MEASURED:
        found = spread(by_scan[name], n_missing=int(missing[name]))
        yield spread_cell(found, digits=3 if name in SCORES else 1)
