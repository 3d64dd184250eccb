"""Pairs of views that go through a tower together. B local rows, D dimensions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pipelines.core.batch import Batch
from trainers.core.objective import Rows

_VIEWS = ("a", "b")


def encode_pair(tower: Callable[[Tensor], Tensor], batch: Batch, prefix: str = "") -> Rows:
    """Features of the views ``a`` and ``b``, by the views' names with a prefix. [B, D] each."""
    features = tower(torch.cat([batch.views[name] for name in _VIEWS]))
    return {prefix + name: half for name, half in zip(_VIEWS, features.chunk(2), strict=True)}


def both(rows: Rows, prefix: str = "") -> Tensor:
    """First views' features, then second ones': heads are normalised over both. [2B, D]."""
    return torch.cat([rows[prefix + name] for name in _VIEWS])
