"""The few collective calls outside the engine; without a process group there is one worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")
_alone: ContextVar[bool] = ContextVar("alone", default=False)


@contextmanager
def alone() -> Iterator[None]:
    """Be the only worker while the body runs: it waits for no other, and none waits for it."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def world() -> tuple[int, int]:
    """Rank and number of workers; (0, 1) outside a process group."""
    if _alone.get() or not dist.is_available() or not dist.is_initialized():
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
