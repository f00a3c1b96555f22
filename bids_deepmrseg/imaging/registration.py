"""What a registration found, and whether to believe it."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from bids_deepmrseg.imaging import agreement
from bids_deepmrseg.imaging.alignment import (
    Mask,
    field_of_view,
    mask_points,
    mean_displacement_mm,
    rotation_deg,
)
from bids_deepmrseg.imaging.grid import Affine
from bids_deepmrseg.imaging.nifti import Scan

Start = Literal["header", "fields", "heads"]

MIN_GAIN = -0.01  # of the information; below it the search made things worse, noise aside
MAX_MOVED_MM = 40.0  # between two scans of one session, with a pause in between
MAX_TURNED_DEG = 25.0
MIN_OVERLAP = 0.80
MIN_COVERED = 0.60  # of the FLAIR's head, by the T1w's field of view
SAME_PLACE_MM = 3.0
NEGLIGIBLE_MM = 0.5  # so far two registrations of one pair may be apart


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Registration:
    """Where a moving scan (T1w) lies against a fixed one (FLAIR), and whether to believe it.

    Attributes
    ----------
    matrix
        ``(4, 4)``, rigid: a point of the **fixed** scan's scanner space (RAS+ millimetres, as its
        NIfTI affine gives them) to the point of the **moving** scan's scanner space that shows the
        same anatomy. It is the way in which images are resampled: the FLAIR's voxel asks here where
        in the T1w to look. Its inverse moves points and affines of the T1w onto the FLAIR.
    start
        From where the search set out that ended best: scanner coordinates of the headers, centres
        of the fields of view laid upon each other, or centres of the heads.
    metric_before, metric_after
        Mutual information in nats at the header's coordinates and by ``matrix``
        (:func:`bids_deepmrseg.imaging.agreement.mutual_information`).
    converged
        Whether the last search ended before its iterations did.
    overlap_before, overlap_after
        Dice, 0 to 1, of the masks (brains if they were given, heads otherwise) within the shared
        field of view.
    covered
        Part of the fixed scan's mask, 0 to 1, that the moving scan's field of view holds.
    moved_mm, turned_deg
        Mean displacement over the fixed scan's mask, and angle, against the header's coordinates.
    doubt
        Why the result should be looked at, a sentence for a person, or ``None``.
    """

    matrix: Affine
    start: Start
    metric_before: float
    metric_after: float
    converged: bool
    overlap_before: float
    overlap_after: float
    covered: float
    moved_mm: float
    turned_deg: float
    doubt: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A fixed and a moving scan, intensities clipped, and the masks to judge them by."""

    fixed: Scan
    moving: Scan
    fixed_mask: Mask
    moving_mask: Mask

    def overlap(self, matrix: Affine) -> float:
        """Dice of the masks within the shared field of view."""
        fixed, moving = self.fixed.grid, self.moving.grid
        return agreement.overlap(self.fixed_mask, fixed, self.moving_mask, moving, matrix)

    def covered(self, matrix: Affine) -> float:
        """Part of the fixed mask within the moving scan's field of view."""
        seen = field_of_view(self.moving.grid, self.fixed.grid, matrix)[self.fixed_mask]
        return float(seen.mean()) if seen.size else 0.0


def judged(
    pair: Pair, matrix: Affine, start: Start, metrics: tuple[float, float], *, converged: bool
) -> Registration:
    """What was found, measured against the header's coordinates, and any doubt about it.

    Parameters
    ----------
    pair
        The scans.
    matrix, start, converged
        Where the search ended, from where it set out, and whether it ended by itself.
    metrics
        Mutual information in nats at the header's coordinates and by ``matrix``.

    Notes
    -----
    The header is believed where the movement is no larger than two registrations differ, for then
    interpolation costs more than it gains, and where the scans agree less by the movement. That is
    a doubt unless it lies next to the header.
    """
    header = np.eye(4)
    before, after = metrics
    inside = mask_points(pair.fixed_mask, pair.fixed.grid)
    if not len(inside):
        inside = agreement.middle_mm(pair.fixed.grid)[None]
    moved_mm = mean_displacement_mm(matrix, header, inside)
    rejected = after if after < before and moved_mm >= SAME_PLACE_MM else None
    if after <= before or moved_mm < NEGLIGIBLE_MM:
        matrix, start, after = header, "header", before
    return doubted(
        Registration(
            matrix=matrix,
            start=start,
            metric_before=before,
            metric_after=after,
            converged=converged,
            overlap_before=pair.overlap(header),
            overlap_after=pair.overlap(matrix),
            covered=pair.covered(matrix),
            moved_mm=mean_displacement_mm(matrix, header, inside),
            turned_deg=rotation_deg(matrix),
            doubt=None,
        ),
        rejected=rejected,
    )


def doubted(result: Registration, *, rejected: float | None = None) -> Registration:
    """The same result with the first reason not to believe it.

    Parameters
    ----------
    result
        Without a doubt so far.
    rejected
        Mutual information of a movement that was not believed, where there was one.
    """
    r = result
    reasons = {
        f"the scans agree less by the movement that was found (mutual information "
        f"{rejected or 0:.2f}) than by the coordinates of their headers "
        f"({r.metric_before:.2f}), which are believed": rejected is not None,
        f"the scans agree less by it (mutual information {r.metric_after:.2f}) than by "
        f"the coordinates of their headers ({r.metric_before:.2f})": (
            r.metric_after < r.metric_before * (1 + MIN_GAIN)
        ),
        f"it moves the scan by {r.moved_mm:.0f} mm and {r.turned_deg:.0f} degrees, "
        "more than a head moves within a session": (
            r.moved_mm > MAX_MOVED_MM or r.turned_deg > MAX_TURNED_DEG
        ),
        f"what both scans show overlaps by a Dice of {r.overlap_after:.2f} only": (
            r.overlap_after < MIN_OVERLAP
        ),
        f"only {r.covered:.0%} of the head lies within both fields of view": (
            r.covered < MIN_COVERED
        ),
        "the search had not settled when it was stopped": not r.converged,
    }
    words = next((word for word, holds in reasons.items() if holds), None)
    if words is None:
        return result
    return replace(result, doubt=f"the registration is doubtful: {words}; look at the overlay")
