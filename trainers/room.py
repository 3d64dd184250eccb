"""Pictures of a whole data set, which may be more than the memory holds."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipelines.available import available_memory
from pipelines.core import StorageError

_SHARE = 0.5  # of the available memory: whoever asks wants to compute as well
_LARGE = Path("/var/tmp")  # of files that are too large for /tmp, which often is memory itself


def room(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Make an array in memory or, where it would take more than half of it, in a file.

    The file has no name and goes with the array; what of it is in use the system keeps in memory.
    It is in $TMPDIR, else in /var/tmp.

    Args:
        shape: Of the array.

    Returns:
        An array to be written, of uint8.

    Raises:
        StorageError: The disk of temporary files has too little space.
    """
    size = int(np.prod(shape, dtype=np.int64))
    if size <= _SHARE * available_memory():
        # Pages that nothing is written to take no memory.
        return np.empty(shape, np.uint8)
    folder = os.environ.get("TMPDIR") or (str(_LARGE) if _LARGE.is_dir() else tempfile.gettempdir())
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            _reserve(file.fileno(), size, folder)
            return np.memmap(file, np.uint8, "r+", shape=shape)
    except OSError as error:
        raise StorageError(
            f"{folder}: no space for {size / 2**30:.1f} GiB of pictures, which the memory does "
            f"not hold ({error.strerror}); set TMPDIR to a larger disk, or name fewer pictures"
        ) from None


def _reserve(file: int, size: int, folder: str) -> None:
    """Take space on the disk: without it a process that writes to the array would be ended."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
        return
    if shutil.disk_usage(folder).free < size:
        raise OSError(0, "disk full")
    os.truncate(file, size)
