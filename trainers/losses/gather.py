"""Features of all workers, with gradient."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from trainers.core.collective import world


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        parts = [torch.empty_like(local) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, local.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        rows = total.shape[0] // dist.get_world_size()
        return total[dist.get_rank() * rows :][:rows]


def gather(local: Tensor) -> Tensor:
    """Concatenate every worker's rows, in the order of ranks.

    The backward pass sums what all workers' losses ask of a row, so that with
    an engine that averages gradients the update is that of the global batch.

    Args:
        local: This worker's rows, equally many on each. [B, ...]

    Returns:
        All rows. [B * workers, ...]
    """
    if world()[1] == 1:
        return local
    if not local.requires_grad:
        parts = [torch.empty_like(local) for _ in range(world()[1])]
        dist.all_gather(parts, local.contiguous())
        return torch.cat(parts)
    gathered: Tensor = _Gather.apply(local)  # type: ignore[no-untyped-call]
    return gathered
