"""Number formats in which statistics of a batch are exact enough."""

from __future__ import annotations

import torch
from torch import Tensor


def wide(values: Tensor) -> Tensor:
    """Give at least single precision: sums over a batch in bf16 lose its small members."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
