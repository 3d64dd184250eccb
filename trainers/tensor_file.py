"""Tensors in a safetensors file: faults of the disk as the system's, and the mode of any file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

_CODE = re.compile(r"\(os error (\d+)\)")


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors to a file on this machine.

    Args:
        tensors: By name, contiguous and on the CPU.
        path: Of the file; replaced where it is there.

    Raises:
        OSError: The disk is full, or the file cannot be written for another reason.
    """
    path.touch()
    mode = path.stat().st_mode & 0o777
    try:
        save_file(dict(tensors), path)
    except SafetensorError as error:  # hides the system's error in its text
        found = _CODE.search(str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error
    path.chmod(mode)  # the library's own is that of a temporary file, for its owner alone
