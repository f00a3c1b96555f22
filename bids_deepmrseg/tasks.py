"""The tasks as frozen data; code reads their fields and never branches on a task's name."""

import re
from dataclasses import dataclass
from typing import Literal

from bids_deepmrseg.errors import UsageError

MOST_LABELS = 65535  # label maps hold 16 bits
Direction = Literal["R", "A", "S"]
DIRECTIONS: tuple[Direction, ...] = ("R", "A", "S")
TrainedOn = Literal["crops", "scans"]
TRAINED_ON: tuple[TrainedOn, ...] = ("crops", "scans")
LARGEST_PLACE_MM = 60.0  # unless a region says otherwise
BRAIN_MM = (170.0, 210.0, 170.0)  # right-left, back-front, foot-head: larger than most


@dataclass(frozen=True, slots=True)
class Range:
    """A closed interval of volumes in millilitres, with where it was published."""

    low_ml: float
    high_ml: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One row of the BIDS lookup table ``dseg.tsv``.

    Attributes
    ----------
    index
        Value of the label's voxels in label maps.
    name, abbreviation
        As in the atlas that the task file cites.
    color
        ``#RRGGBB``, for viewers.
    mapping
        Index in the BIDS common table of tissue classes.
    mirror
        Index of the same structure on the other side; the label's own for midline structures.
    adult_range
        Volumes that adults are known to have, or ``None`` where nothing was published.
    freesurfer
        Numbers in FreeSurfer's table, which whole-head label maps use, that together are the
        same structure; empty where none is.
    part_of
        For landmarks, index of the label that they are a part of.
    """

    index: int
    name: str
    abbreviation: str
    color: str
    mapping: int
    mirror: int
    adult_range: Range | None = None
    freesurfer: tuple[int, ...] = ()
    part_of: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One place of the head that is cut out and segmented by itself.

    Attributes
    ----------
    located_by
        Index of the label or landmark, of the region's task, that the place is cut around.
    mirrored
        Whether left and right are exchanged before the networks see it, so that one set of
        weights serves both sides.
    labels
        Indices of the task's labels that the networks' classes mean here, in network order.
    """

    located_by: int
    mirrored: bool
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Where in the head a task works: around labels that another task finds first.

    Attributes
    ----------
    task
        Name of the task whose labels show the way.
    margin_mm
        What is kept around them along right-left, back-front and foot-head.
    places
        What is cut out. Training crops show the first place, unmirrored, and nothing else.
    parted_along
        ``R``, ``A`` or ``S`` where the protocol of the labels parts the two of a place by a plane
        across that direction, the first label lying further along it; ``None`` elsewhere.
    largest_mm
        No label that a place is cut around is longer than this along any axis.
    trained_on
        ``crops`` that show one place, or whole ``scans``, from which all places are cut as the
        app cuts them.
    """

    task: str
    margin_mm: tuple[float, float, float]
    places: tuple[Place, ...]
    parted_along: Direction | None = None
    largest_mm: float = LARGEST_PLACE_MM
    trained_on: TrainedOn = "crops"


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionDefaults:
    """What counts as a lesion unless the user says otherwise.

    Attributes
    ----------
    threshold
        Least probability of a lesion's voxel, above 0 and at most 1.
    smallest_mm3
        Least volume of a lesion.
    slices_mm
        Thinnest and thickest slices of the scans on which the model was measured and met what was
        asked of it; ``None`` where nothing is known.
    """

    threshold: float
    smallest_mm3: float
    slices_mm: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A segmentation task as data.

    Attributes
    ----------
    name
        Alphanumeric, as it appears behind ``seg-`` in file names.
    description
        One sentence for sidecars and ``--dry-run``.
    channels
        BIDS suffixes of the scans, in network input order; the first one's grid is the native
        grid of the answer.
    spacing_mm
        Edge of the model grid's cubic voxels; of a task within a brain, of its pixels, and of its
        slices where they were acquired thinner.
    field_of_view_mm
        Right to left, back to front and foot to head extent of the model grid, laid around the
        centre of the brain; a scan that is smaller is taken whole. ``None`` for a task with a
        region or within a brain, which give the extent.
    labels
        The lookup table; background is index 0 and is left out.
    one_cluster
        Whether all labels together form one place in the head, so that an island far from it
        cannot be right. Without it, labels of a region's place must touch each other.
    atlas
        Where label names, indices and adult ranges come from.
    region
        Where another task's labels say what to cut out; ``None`` for the whole brain.
    views
        Slice directions to train, one network each; empty for those of the recipe.
    landmarks
        Parts of labels that the networks tell apart so that other tasks can be located by them;
        in what the user gets they are merged into the labels that they are a part of.
    brain
        Index of the label whose volume those of all structures are divided by; ``None`` for
        tasks that do not measure the brain as a whole.
    optional
        The last of the channels, as far as the task can do without them.
    within
        Name of the task that finds the brain, in the first channel, outside of which nothing is
        looked at; ``None`` for tasks that find their way by themselves or have a region.
    lesions
        For a task whose one label is lesions, told one by one: what counts as one.
    """

    name: str
    description: str
    channels: tuple[str, ...]
    spacing_mm: float
    field_of_view_mm: tuple[float, float, float] | None
    labels: tuple[Label, ...]
    one_cluster: bool
    atlas: str
    region: Region | None = None
    views: tuple[str, ...] = ()
    landmarks: tuple[Label, ...] = ()
    brain: int | None = None
    optional: tuple[str, ...] = ()
    within: str | None = None
    lesions: LesionDefaults | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9A-Za-z]+", self.name):
            raise UsageError(
                f"task name {self.name!r} must be letters and digits (BIDS labels are)"
            )
        indices = [label.index for label in self.told_apart]
        in_range = all(1 <= index <= MOST_LABELS for index in indices)
        if not indices or len(set(indices)) != len(indices) or not in_range:
            raise UsageError(
                f"task {self.name}: label indices must be distinct and above 0, "
                f"at most {MOST_LABELS}"
            )
        by_index = {label.index: label for label in self.told_apart}
        for label in self.told_apart:
            if label.mirror not in by_index or by_index[label.mirror].mirror != label.index:
                raise UsageError(f"task {self.name}: {label.name} and its mirror disagree")
        self._check_parts()
        if not self.channels:
            raise UsageError(f"task {self.name} names no channel")
        if self.region is None and self.within is None and self.field_of_view_mm is None:
            raise UsageError(f"task {self.name} needs a field_of_view_mm or a region")
        if self.region is not None:
            self._check_places(self.region.places)
        self._check_lesions()
        if not self.spacing_mm > 0:
            raise UsageError(f"task {self.name}: spacing_mm must be above 0")

    def _check_parts(self) -> None:
        """Landmarks are parts of labels, labels are whole, and the brain is one of them."""
        whole = {label.index for label in self.labels}
        for one in self.landmarks:
            if one.part_of not in whole:
                raise UsageError(f"task {self.name}: landmark {one.name} is part of no label")
        if any(label.part_of is not None for label in self.labels):
            raise UsageError(f"task {self.name}: only landmarks can be part of a label")
        if self.landmarks and self.region is not None:
            raise UsageError(f"task {self.name}: a task with a region has no landmarks")
        if self.brain is not None and self.brain not in whole:
            raise UsageError(f"task {self.name}: brain = {self.brain} is none of its labels")

    def _check_lesions(self) -> None:
        """Optional channels come last, a task looks in one place, and lesions are one label."""
        n_needed = len(self.channels) - len(self.optional)
        if n_needed < 1 or self.channels[n_needed:] != self.optional:
            raise UsageError(
                f"task {self.name}: optional must be the last of its channels, and leave one"
            )
        if self.within is not None and (self.region is not None or self.landmarks):
            raise UsageError(f"task {self.name}: within goes with neither region nor landmarks")
        if self.lesions is not None and (self.within is None or len(self.labels) != 1):
            raise UsageError(f"task {self.name}: lesions are one label, within a brain")

    @property
    def needed(self) -> tuple[str, ...]:
        """Channels that the task cannot do without."""
        return self.channels[: len(self.channels) - len(self.optional)]

    @property
    def is_cut_from_scans(self) -> bool:
        """Whether training data are whole scans, from which the places of a region are cut."""
        return self.region is not None and self.region.trained_on == "scans"

    @property
    def told_apart(self) -> tuple[Label, ...]:
        """All labels, then all landmarks."""
        return (*self.labels, *self.landmarks)

    @property
    def parents(self) -> tuple[int, ...]:
        """For every landmark, the position in ``labels`` of what it is a part of."""
        positions = [label.index for label in self.labels]
        return tuple(positions.index(one.part_of) for one in self.landmarks if one.part_of)

    def labels_of(self, place: Place) -> tuple[Label, ...]:
        """What the networks' classes mean in a place, background left out."""
        by_index = {label.index: label for label in self.labels}
        return tuple(by_index[index] for index in place.labels)

    def _check_places(self, places: tuple[Place, ...]) -> None:
        """Every label belongs to exactly one place, and all places have as many."""
        listed = [index for place in places for index in place.labels]
        if sorted(listed) != sorted(label.index for label in self.labels):
            raise UsageError(f"task {self.name}: each label must belong to exactly one place")
        sizes = {len(place.labels) for place in places}
        if len(sizes) != 1:
            raise UsageError(f"task {self.name}: its places must have equally many labels")
        if self.region is not None and self.region.parted_along is not None and sizes != {2}:
            raise UsageError(f"task {self.name}: only two labels can be parted by a plane")

    @property
    def network_labels(self) -> tuple[Label, ...]:
        """What the networks' classes are: labels and landmarks, or the labels of one place."""
        return self.told_apart if self.region is None else self.labels_of(self.region.places[0])

    @property
    def n_classes(self) -> int:
        """Network output channels, background included."""
        return len(self.network_labels) + 1

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """The model grid at its largest."""
        if self.region is not None:
            i, j, k = (self.region.largest_mm + 2 * margin for margin in self.region.margin_mm)
            return i, j, k
        if self.within is not None:
            return BRAIN_MM
        if self.field_of_view_mm is None:
            raise UsageError(f"task {self.name} needs a field_of_view_mm or a region")
        return self.field_of_view_mm

    @property
    def space(self) -> str:
        """Suffix of the scan on whose grid the answer lies."""
        return self.channels[0]

    @property
    def mirror_classes(self) -> tuple[int, ...]:
        """For every class, background first, the class of the other side."""
        if self.region is not None:  # a place is one side: flipped, its structures stay themselves
            return tuple(range(self.n_classes))
        classes = {label.index: c for c, label in enumerate(self.told_apart, start=1)}
        return (0, *(classes[label.mirror] for label in self.told_apart))
