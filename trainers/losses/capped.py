"""An exponential that stops at a largest value, and comes back from there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainers.core.collective import world
from trainers.losses.gather import gather


class _CappedExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, log: Tensor, largest: float) -> Tensor:
        value = log.exp()
        capped = value.clamp(max=largest)
        ctx.save_for_backward(capped, value > largest)
        # A GPU's backward pass runs in a thread that knows nothing of ``alone``.
        ctx.workers = world()[1]
        return capped

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        capped, beyond = ctx.saved_tensors
        # What all workers want together: a mean of what each alone may have would only fall.
        wanted = gradients[0]
        if ctx.workers > 1:
            wanted = gather(wanted[None].contiguous()).sum(0)
        return (gradients[0] * capped).masked_fill(beyond & (wanted < 0), 0), None


def capped_exp(log: Tensor, largest: float) -> Tensor:
    """``min(exp(log), largest)``, with a gradient that leads back from beyond.

    A clamp's gradient is zero there, so that a value which an update has carried beyond stays
    there forever. Here it is zero only where the loss, the mean of all workers', wants more of
    it; else it is that of the exponential at the largest value.

    Args:
        log: A parameter. [...]
        largest: Of the values.

    Returns:
        Same shape.
    """
    value: Tensor = _CappedExp.apply(log, largest)  # type: ignore[no-untyped-call]
    return value
