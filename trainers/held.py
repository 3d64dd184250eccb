"""A folder that is gone with its process, however that ends."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import weakref
from pathlib import Path

_LOCK, _INSIDE = "lock", "inside"


class HeldFolder:
    """A folder of one process on a local disk.

    It is removed with this object, at the interpreter's end, or, where the process was killed, by
    the next one that wants such a folder in the same place.

    Attributes:
        path: Where it is.
    """

    def __init__(self, parent: Path, prefix: str):
        """Make the folder.

        Args:
            parent: Where.
            prefix: How its name begins: that of all folders which are wanted for the same.

        Raises:
            OSError: It cannot be made.
        """
        sweep(parent, prefix)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        self._removal = weakref.finalize(self, _remove, folder, _lock(folder))
        self.path = folder / _INSIDE
        self.path.mkdir()

    def close(self) -> None:
        """Remove the folder."""
        self._removal()


def sweep(parent: Path, prefix: str) -> None:
    """Remove what processes that are gone have left. Their numbers would not tell in containers."""
    for folder in parent.glob(f"{prefix}*"):
        try:
            if folder.lstat().st_uid != os.getuid():
                continue
            # Of a pipe, opening would wait for who reads it.
            file = os.open(folder / _LOCK, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        except OSError:  # being made or removed by somebody
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _empty(folder)
        except BlockingIOError:
            continue
        finally:
            os.close(file)


def _remove(folder: Path, lock: int) -> None:
    _empty(folder)
    os.close(lock)


def _empty(folder: Path) -> None:
    """Remove a folder, its lock last: without it nobody would ever remove the rest."""
    shutil.rmtree(folder / _INSIDE, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def _lock(folder: Path) -> int:
    """Mark a folder as in use for as long as this process lives."""
    # Under another name until it is held: a folder whose lock is free counts as left behind.
    place = folder / f"{_LOCK}-new"
    file = os.open(place, os.O_CREAT | os.O_WRONLY, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX)
    place.rename(folder / _LOCK)
    return file
