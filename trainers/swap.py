"""A folder for what training keeps on a local disk, gone with its process."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import tempfile
from pathlib import Path

from pipelines.core import StorageError, UserError
from trainers.held import HeldFolder, sweep

_PREFIX = "eagleray-swap-"
_SECTOR = 1024  # bytes, of which lengths are multiples


class SwapFolder:
    """A folder on a local disk that reads and writes past the system's cache.

    It goes as a ``HeldFolder`` does.

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
            sweep(Path(parent), _PREFIX)
            if (free := shutil.disk_usage(parent).free) < needed:
                text = f"{free / 2**30:.1f} GiB free of {needed / 2**30:.1f} that are needed"
                raise StorageError(f"offload.folder {parent}: {text}")
            self._folder = HeldFolder(Path(parent), _PREFIX)
            self.path = self._folder.path
        except OSError as error:
            raise StorageError(
                f"offload.folder {parent}: {error.strerror}; name a folder on a local disk"
            ) from None

    def close(self) -> None:
        """Remove the folder."""
        self._folder.close()


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
