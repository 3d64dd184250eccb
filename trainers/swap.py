"""A folder for what training keeps on a local disk, gone with its process."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import weakref
from pathlib import Path

from pipelines.core import StorageError

_PREFIX = "eagleray-swap-"
_LOCK = "lock"


class SwapFolder:
    """A folder of one process on a local disk.

    It is removed with this object, at the interpreter's end, or, where the process was killed, by
    the next one that wants a folder in the same place.

    Attributes:
        path: Where it is.
    """

    def __init__(self, parent: str):
        """Make the folder.

        Args:
            parent: A folder on a local disk.

        Raises:
            StorageError: Nothing can be written there, or only through the system's cache.
        """
        try:
            Path(parent).mkdir(parents=True, exist_ok=True)
            _try_direct(Path(parent))
            _sweep(Path(parent))
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            self._removal = weakref.finalize(self, _remove, self.path, _lock(self.path))
        except OSError as error:
            raise StorageError(
                f"offload.folder {parent}: {error.strerror}; name a folder on a local disk"
            ) from None

    def close(self) -> None:
        """Remove the folder."""
        self._removal()


def _remove(folder: Path, lock: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)


def _lock(folder: Path) -> int:
    """Mark a folder as in use for as long as this process lives."""
    # Under another name until it is held: a folder whose lock is free counts as left behind.
    place = folder / f"{_LOCK}-new"
    file = os.open(place, os.O_CREAT | os.O_WRONLY, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX)
    place.rename(folder / _LOCK)
    return file


def _sweep(parent: Path) -> None:
    """Remove what processes that are gone have left. Their numbers would not tell in containers."""
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            file = os.open(folder / _LOCK, os.O_WRONLY)
        except OSError:  # being made or removed by somebody, or somebody else's
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(file)


def _try_direct(folder: Path) -> None:
    """Open a file past the system's cache, as will be done: not every file system can."""
    place = Path(tempfile.mkdtemp(dir=folder))
    try:
        flags = os.O_CREAT | os.O_WRONLY | getattr(os, "O_DIRECT", 0)
        os.close(os.open(place / "probe", flags, 0o600))
    finally:
        shutil.rmtree(place)
