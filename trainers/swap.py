"""A folder for what training keeps on a local disk, gone with its process."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import shutil
import tempfile
import weakref
from pathlib import Path

from pipelines.core import StorageError, UserError

_PREFIX = "eagleray-swap-"
_LOCK, _INSIDE = "lock", "tensors"
_SECTOR = 1024  # bytes, of which lengths are multiples


class SwapFolder:
    """A folder of one process on a local disk.

    It is removed with this object, at the interpreter's end, or, where the process was killed, by
    the next one that wants a folder in the same place.

    Attributes:
        path: Where it is.
    """

    def __init__(self, parent: str, needed: int = 0):
        """Make the folder.

        Args:
            parent: A folder on a local disk. One that is not there is not made: it would be on
                another disk.
            needed: Bytes that must be free.

        Raises:
            StorageError: Nothing can be written there past the system's cache, or not so much.
        """
        try:
            _try_direct(Path(parent))
            _sweep(Path(parent))
            if (free := shutil.disk_usage(parent).free) < needed:
                text = f"{free / 2**30:.1f} GiB free of {needed / 2**30:.1f} that are needed"
                raise StorageError(f"offload.folder {parent}: {text}")
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            self._removal = weakref.finalize(self, _remove, folder, _lock(folder))
            self.path = folder / _INSIDE
            self.path.mkdir()
        except OSError as error:
            raise StorageError(
                f"offload.folder {parent}: {error.strerror}; name a folder on a local disk"
            ) from None

    def close(self) -> None:
        """Remove the folder."""
        self._removal()


def check_lockable(size: int) -> None:
    """Refuse where the system lets this process hold less memory than the buffers of a disk take.

    Args:
        size: Bytes.

    Raises:
        UserError: It does; the library would end the process.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with mmap.mmap(-1, max(1, size)) as memory:
        first = ctypes.c_char.from_buffer(memory)
        place = ctypes.c_void_p(ctypes.addressof(first))
        refused = libc.mlock(place, ctypes.c_size_t(size))
        libc.munlock(place, ctypes.c_size_t(size))
        del first  # the mapping is closed when nothing refers to it
    if refused:
        raise UserError(
            f"offload.optimizer nvme locks {size / 2**20:,.0f} MiB of memory, more than this "
            "process may: raise `ulimit -l` (a container's --ulimit memlock=-1)"
        )


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


def _sweep(parent: Path) -> None:
    """Remove what processes that are gone have left. Their numbers would not tell in containers."""
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            file = os.open(folder / _LOCK, os.O_WRONLY)
        except OSError:  # being made or removed by somebody, or somebody else's
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _empty(folder)
        except BlockingIOError:
            continue
        finally:
            os.close(file)


def _try_direct(folder: Path) -> None:
    """Write and read past the system's cache, as will be done: not every disk can, in such lengths.

    The library would not say so.
    """
    place = Path(tempfile.mkdtemp(dir=folder))
    try:
        flags = os.O_CREAT | os.O_RDWR | getattr(os, "O_DIRECT", 0)
        file = os.open(place / "probe", flags, 0o600)
        try:
            with mmap.mmap(-1, _SECTOR) as memory:  # its address is a page's
                os.pwritev(file, [memory], _SECTOR)
                os.preadv(file, [memory], _SECTOR)
        finally:
            os.close(file)
    finally:
        shutil.rmtree(place)
