"""Copies to the training device that wait for none of its work."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def upload(numbers: npt.NDArray[Any], device: torch.device) -> Tensor:
    """Copy numbers to a device; nothing that is changed later changes the copy.

    To a GPU they go while it computes, out of page-locked memory and in a queue of their own:
    an ordinary copy waits until the GPU has done all that it was asked to before.

    Args:
        numbers: Of any shape.
        device: Where to.

    Returns:
        The same shape and type.
    """
    if device.type != "cuda":
        return torch.from_numpy(numbers.copy()).to(device)
    kind = torch.from_numpy(np.empty(0, numbers.dtype)).dtype
    locked = torch.empty(numbers.shape, dtype=kind, pin_memory=True)
    np.copyto(locked.numpy(), numbers)
    computing = torch.cuda.current_stream(device)
    with torch.cuda.stream(_queue(device)):
        copied = locked.to(device, non_blocking=True)
    computing.wait_stream(_queue(device))
    copied.record_stream(computing)
    return copied


@cache
def _queue(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
