"""Number formats in which statistics of a batch are exact enough."""

from __future__ import annotations

import torch
from torch import Tensor


def wide(values: Tensor) -> Tensor:
    """Give at least single precision: sums over a batch in bf16 lose its small members."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def product(a: Tensor, b: Tensor) -> Tensor:
    """Product of matrices in at least single precision, to which autocast would round both.

    Args:
        a: [N, D]
        b: [D, M]

    Returns:
        [N, M]
    """
    with torch.autocast(a.device.type, enabled=False):
        return wide(a) @ wide(b)
