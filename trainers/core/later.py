"""A number that a device is still to compute, fetched without waiting for what follows it."""

from __future__ import annotations

import torch
from torch import Tensor


class Later:
    """Starts to fetch a number; ``item`` would wait until the device has nothing left to do.

    Args:
        value: Computed, or queued to be. [1]
    """

    def __init__(self, value: Tensor):
        self._value = value
        self._there: torch.cuda.Event | None = None
        if value.is_cuda:
            self._value = torch.empty(1, dtype=value.dtype, pin_memory=True)
            self._value.copy_(value, non_blocking=True)
            self._there = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._there.record()

    def number(self) -> float:
        """The number; waits for it alone."""
        if self._there is not None:
            self._there.synchronize()
        return float(self._value)
