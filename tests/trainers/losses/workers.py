"""Several workers as threads of one process, who may have different numbers of rows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import TypeVar

import pytest
import torch
from torch import Tensor

T = TypeVar("T")


def as_workers(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, count: int, work: Callable[[int], T]
) -> tuple[list[T], list[torch.Size]]:
    """Call ``work`` once a worker, with ``gather`` of a module between them.

    Returns:
        What each returned, and the shapes of all that was gathered.
    """
    meeting, mine = threading.Barrier(count, timeout=60), threading.local()
    given: dict[int, Tensor] = {}
    shapes: list[torch.Size] = []

    def gather(local: Tensor) -> Tensor:
        given[mine.rank] = local
        shapes.append(local.shape)
        meeting.wait()
        every = torch.cat([given[rank] for rank in range(count)])
        meeting.wait()
        return every

    def begin(rank: int) -> T:
        mine.rank = rank
        return work(rank)

    with monkeypatch.context() as patched, ThreadPoolExecutor(count) as pool:
        patched.setattr(module, "gather", gather)
        return list(pool.map(begin, range(count))), shapes
