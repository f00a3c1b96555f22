"""Every failure this package raises on purpose, one class per remedy."""

import os


class DeepMRSegError(Exception):
    """Root of the hierarchy; the command line catches this one and nothing broader."""

    exit_code = os.EX_SOFTWARE


class UsageError(DeepMRSegError):
    """The command line asks for something contradictory; remedy: change a flag."""

    exit_code = os.EX_USAGE


class NothingToDoError(DeepMRSegError):
    """No scan fits what was asked; remedy: change the selection or the dataset's names."""

    exit_code = os.EX_NOINPUT


class InputDataError(DeepMRSegError):
    """A file cannot be segmented as it stands; remedy: fix or exclude that file."""

    exit_code = os.EX_DATAERR


class GeometryError(InputDataError):
    """Shape, affine or orientation is unusable or does not match its partner."""


class SegmentationError(DeepMRSegError):
    """The network's answer cannot be right for this scan; remedy: look at the scan, exclude it."""

    exit_code = os.EX_DATAERR


class WeightsError(DeepMRSegError):
    """Weights are absent, damaged or made for another task; remedy: install them again."""

    exit_code = os.EX_UNAVAILABLE


class OutputError(DeepMRSegError):
    """Results cannot be written, or do not read back as written; remedy: free the folder."""

    exit_code = os.EX_CANTCREAT


class FileSystemError(DeepMRSegError):
    """The file system refuses a file or folder; remedy: its permissions, or the disk."""

    exit_code = os.EX_IOERR


class ResourceError(DeepMRSegError):
    """Memory or a device did not suffice; remedy: give more, or use fewer processes."""

    exit_code = os.EX_OSERR


class TrainingError(DeepMRSegError):
    """Training cannot start or go on; remedy: fix the training data or the configuration."""

    exit_code = os.EX_DATAERR
