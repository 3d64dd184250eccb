"""Means over what workers have different numbers of."""

from __future__ import annotations

from torch import Tensor

from trainers.core.collective import world
from trainers.losses.gather import gather


def global_mean(total: Tensor, count: Tensor) -> Tensor:
    """Divide by the mean of all workers' counts, so that workers' means add up to the global one.

    Args:
        total: Sum over what this worker has. []
        count: Of how many things, without gradient; 0 is allowed. []

    Returns:
        Such that the mean over workers is the sum of all totals over the sum of all counts;
        0 where there is nothing at all. []
    """
    mean = gather(count.to(total.dtype).view(1)).mean()
    return total / mean.clamp(min=1 / world()[1])
