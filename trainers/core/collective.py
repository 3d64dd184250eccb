"""The few collective calls outside the engine; without a process group there is one worker."""

from __future__ import annotations

from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")


def world() -> tuple[int, int]:
    """Rank and number of workers; (0, 1) outside a process group."""
    if not dist.is_available() or not dist.is_initialized():
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def gather_objects(value: T) -> list[T]:
    """Every worker's value, in the order of ranks, on every worker."""
    workers = world()[1]
    if workers == 1:
        return [value]
    values: list[T] = [value] * workers
    dist.all_gather_object(values, value)
    return values
