"""Locks among all processes that see a folder; whoever dies gives them back, however it dies."""

import errno
import fcntl
import logging
import os
import random
import struct
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from bids_deepmrseg.files import make_folder

logger = logging.getLogger(__name__)

FOLDER_NAME = ".bids_deepmrseg"  # BIDS readers pass over what begins with a dot
FILE_NAME = "lock"
ATTEMPTS = 500
POLL_S = 0.01
PATIENCE_S = 60.0
HELD = frozenset({errno.EAGAIN, errno.EACCES})
UNKNOWN = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP})  # no locks in this file system
PRESENCE = 0  # the byte that everybody locks who has the file open


class Locks:
    """Named locks in a folder, held until they are given back or this process ends.

    Parameters
    ----------
    folder
        Where the file for locks is made; the last who leaves takes it away.

    Notes
    -----
    A lock is a byte of that file, locked as an open file description ("OFD"): the kernel, or the
    server of a network file system, releases it when its holder dies. Where a file system knows no
    locks, :attr:`works` is false and everything is granted. See decision record 18.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder.absolute() / FOLDER_NAME / FILE_NAME
        self._descriptor: int | None = None

    @property
    def folder(self) -> Path:
        """For what holders of locks want to say."""
        return self._file.parent

    @property
    def works(self) -> bool:
        """Whether locks keep anybody out."""
        return self._descriptor is not None

    def __enter__(self) -> Self:
        try:
            self._descriptor = _open_present(self._file)
        except OSError as error:
            logger.debug("no locks in %s: %s", self._file, error)
        mine = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _leave_to_parent(mine()))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            with suppress(OSError):
                self.folder.rmdir()
            return
        try:
            # of two who leave together, each first lets go: the later one finds itself alone
            _locked(descriptor, fcntl.F_UNLCK, PRESENCE)
            if _locked(descriptor, fcntl.F_WRLCK, PRESENCE):
                self._file.unlink()
                self.folder.rmdir()
        except OSError:
            pass
        finally:
            os.close(descriptor)

    def take(self, name: str) -> bool:
        """Take a lock, unless somebody else has it; true also where nothing can be locked."""
        if self._descriptor is None:
            return True
        try:
            return _locked(self._descriptor, fcntl.F_WRLCK, _byte(name))
        except OSError as error:
            logger.debug("%s: %s", self._file, error)
            return True

    def give_back(self, name: str) -> None:
        """Give a lock back."""
        if self._descriptor is not None:
            _locked(self._descriptor, fcntl.F_UNLCK, _byte(name))

    def forget(self) -> None:
        """Close the file without giving anything back: another process still has it open."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Hold a lock, waiting for it as long as others may reasonably need it."""
        patience_ends_s = time.monotonic() + PATIENCE_S
        while not (taken := self.take(name)) and time.monotonic() < patience_ends_s:
            time.sleep(POLL_S * random.uniform(1, 5))  # noqa: S311 - only to not meet again
        if not taken:
            logger.warning("%s is locked for long; the run goes on without waiting", self._file)
        try:
            yield
        finally:
            if taken:
                self.give_back(name)


def _leave_to_parent(locks: Locks | None) -> None:
    """Keep a forked child from holding its parent's locks when that is dead."""
    if locks is not None:
        locks.forget()


def _open_present(file: Path) -> int:
    """Open the file for locks, and let others know that it is open."""
    for _ in range(ATTEMPTS):
        make_folder(file.parent)
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            continue  # who left last took the folder away in between
        try:
            with suppress(OSError):
                os.fchmod(descriptor, 0o666)  # other users may write to the same output
            if _locked(descriptor, fcntl.F_RDLCK, PRESENCE) and _is_at(descriptor, file):
                return descriptor
        except OSError as error:
            os.close(descriptor)
            if error.errno in UNKNOWN:
                file.unlink(missing_ok=True)
            raise
        os.close(descriptor)
        time.sleep(POLL_S)
    raise OSError(errno.EAGAIN, "it is always taken away", str(file))


def _is_at(descriptor: int, file: Path) -> bool:
    """Whether what is open is still what lies there: another may have taken it away."""
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def _locked(descriptor: int, kind: int, byte: int) -> bool:
    """Lock or unlock a byte; false if somebody else has locked it."""
    request = struct.pack("hhqqi0q", kind, os.SEEK_SET, byte, 1, 0)  # C's struct flock
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, request)
    except OSError as error:
        if error.errno in HELD:
            return False
        raise
    return True


def _byte(name: str) -> int:
    """Where in the file the lock of that name is: no two names in practice share one."""
    return 1 + int.from_bytes(sha256(name.encode()).digest()[:7])
