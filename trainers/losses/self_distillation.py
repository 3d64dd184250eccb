"""Losses of self-distillation. B local rows, G rows of all workers, K prototypes, D dimensions.

V views of each sample are the student's; the first T of them are the teacher's as well.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.core.collective import world
from trainers.losses.gather import gather
from trainers.losses.precision import product, wide

_EPS = 1e-8


def class_loss(scores: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of each view with the teacher's other views (Caron et al., 2021, DINO).

    ``-sum_k q_tk log softmax(s_v / temperature)_k`` (arXiv:2104.14294), averaged over
    samples and over all pairs of a teacher's view t and another view v.

    Args:
        scores: The student's. [V, B, K]
        targets: The teacher's shares, without gradient. [T, B, K]
        temperature: Of the student.

    Returns:
        Local mean. []
    """
    logs = F.log_softmax(wide(scores) / temperature, dim=2)
    # All pairs less those of a view with itself; no product of matrices, which autocast rounds.
    every = (targets.sum(0) * logs.sum(0)).sum()
    itself = (targets * logs[: len(targets)]).sum()
    return (itself - every) / (len(targets) * (len(scores) - 1) * scores.shape[1])


def patch_loss(scores: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of masked patches with the teacher's (Zhou et al., 2022, iBOT).

    ``-sum_k q_k log softmax(s / temperature)_k`` (arXiv:2111.07832), averaged over
    samples and their M masked patches, equally many in each.

    Args:
        scores: The student's, of patches it did not see. [B, M, K]
        targets: The teacher's shares, without gradient. [B, M, K]
        temperature: Of the student.

    Returns:
        Local mean. []
    """
    logits = wide(scores).flatten(0, 1) / temperature
    return F.cross_entropy(logits, targets.flatten(0, 1).to(logits.dtype))


def koleo(rows: Tensor) -> Tensor:
    """Spread rows evenly over the sphere (Sablayrolles et al., 2019, arXiv:1806.03198).

    ``-log |x_i - x_j|`` averaged over i, with j the nearest other row of the global
    batch and all x of unit length. Workers differ in i only, so that the mean over
    workers is the global batch's; ``gather`` brings back what they ask of j.

    Args:
        rows: Of any length. [B, D]

    Returns:
        Local mean. []
    """
    rows = F.normalize(wide(rows), dim=1)
    others = gather(rows)
    with torch.no_grad():
        cosines = product(rows, others.T)  # [B, G]; neighbours may be close to one another
        own = torch.arange(len(rows), device=rows.device) + world()[0] * len(rows)
        nearest = cosines.scatter(1, own[:, None], float("-inf")).argmax(1)
    distances = torch.linalg.vector_norm(rows - others[nearest], dim=1)
    loss: Tensor = -(distances + _EPS).log().mean()
    return loss


@torch.no_grad()
def entropy(targets: Tensor) -> Tensor:
    """Mean entropy of targets, below which no cross-entropy with them falls.

    Where the teacher collapses it nears 0 or log K.

    Args:
        targets: [..., K]; rows sum to 1.

    Returns:
        Local mean. []
    """
    found: Tensor = torch.special.entr(targets).sum(-1).mean()
    return found


@torch.no_grad()
def centred(scores: Tensor, centre: Tensor, temperature: Tensor) -> Tensor:
    """Targets ``softmax((scores - centre) / temperature)`` of DINO.

    Args:
        scores: The teacher's. [..., K]
        centre: Their running mean. [K]
        temperature: Of the teacher. [1]

    Returns:
        Shares without gradient. [..., K]
    """
    return F.softmax((wide(scores) - centre) / temperature, dim=-1)


@torch.no_grad()
def batch_centre(scores: Tensor) -> Tensor:
    """Mean of the teacher's scores over all workers' rows. [B, K] -> [K]."""
    # Equally many rows on each worker: the mean of their means is that of all rows.
    return gather(wide(scores).mean(0, keepdim=True)).mean(0)


@torch.no_grad()
def update_centre(centre: Tensor, mean: Tensor, momentum: float) -> None:
    """Follow in place: ``centre = momentum * centre + (1 - momentum) * mean``.

    Args:
        centre: Running mean. [K]
        mean: Of the global batch. [K]
        momentum: Share that is kept.
    """
    centre.lerp_(mean.to(centre.dtype), 1 - momentum)
