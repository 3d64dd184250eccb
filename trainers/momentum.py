"""Momentum teachers: a copy of a module that follows it slowly."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn


class Teacher(nn.Module):
    """Exponential moving average of a student (Tarvainen and Valpola, 2017, arXiv:1703.01780).

    Its weights are part of the state, so that a checkpoint restores them.

    Args:
        student: What is copied; later updates must come from a module of the same structure.
    """

    def __init__(self, student: nn.Module):
        super().__init__()
        self.module = copy.deepcopy(student).requires_grad_(False)

    @torch.no_grad()
    def forward(self, inputs: Tensor, member: int) -> Tensor:
        """Outputs of a member of the copy, an ``nn.Sequential``, without gradient.

        Args:
            inputs: [B, ...]
            member: Its place.
        """
        outputs: Tensor = cast(nn.Sequential, self.module)[member](inputs)
        return outputs

    @torch.no_grad()
    def update(self, student: nn.Module, momentum: float) -> None:
        """Follow the student: ``teacher = momentum * teacher + (1 - momentum) * student``.

        Args:
            student: Of the structure that was copied.
            momentum: 1 leaves the teacher as it is, 0 makes it the student.
        """
        pairs = list(_weights(self.module, student))
        teachers, students = [mine for mine, _ in pairs], [theirs for _, theirs in pairs]
        torch._foreach_lerp_(teachers, students, 1 - momentum)
        # Buffers are constants, counts or statistics that are averages already.
        for mine, theirs in zip(self.module.buffers(), student.buffers(), strict=True):
            mine.copy_(theirs)


def _weights(teacher: nn.Module, student: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    for mine, theirs in zip(teacher.parameters(), student.parameters(), strict=True):
        # Under ZeRO 3 a parameter is this worker's shard; a small one is kept whole as
        # well, and the engine does not gather it again before the next forward pass.
        shard = getattr(mine, "ds_tensor", None)
        if shard is not None:
            yield shard, theirs.ds_tensor  # type: ignore[attr-defined]
        if mine.numel() and (shard is None or mine.data_ptr() != shard.data_ptr()):
            yield mine, theirs


def rising(start: float, progress: float) -> float:
    """Momentum that rises to 1 along a cosine (Grill et al., 2020, arXiv:2006.07733).

    Args:
        start: Momentum at the beginning.
        progress: Share of the run that is done, in [0, 1].
    """
    return 1 - (1 - start) * (1 + math.cos(math.pi * progress)) / 2
