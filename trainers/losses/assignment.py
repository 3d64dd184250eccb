"""Balanced assignment to prototypes. B local rows, G rows of all workers, K prototypes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.losses.gather import gather
from trainers.losses.precision import wide


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Assign rows to prototypes so that all are used equally (Cuturi, 2013, arXiv:1306.0895).

    Rows and columns of ``exp(scores / epsilon)`` over the global batch are
    scaled in turn, in logarithms: a small epsilon would underflow otherwise.
    Workers exchange their sums of columns only, K numbers an iteration.

    Args:
        scores: Of this worker's rows. [B, K]
        epsilon: Smoothness.
        iterations: Of both scalings; rows come last.

    Returns:
        This worker's shares of each prototype, without gradient. [B, K]; rows sum to 1,
        columns over all workers to about G / K.
    """
    logs = wide(scores) / epsilon
    for _ in range(iterations):
        logs = logs - gather(logs.logsumexp(0, keepdim=True)).logsumexp(0)
        logs = logs - logs.logsumexp(1, keepdim=True)
    return logs.exp()


def swapped_prediction(
    a: Tensor, b: Tensor, temperature: float, epsilon: float, iterations: int
) -> tuple[Tensor, Tensor]:
    """Predict a view's assignment from the other view (Caron et al., 2020, arXiv:2006.09882).

    ``-sum_k q_k log softmax(scores / temperature)_k``, averaged over both directions.

    Args:
        a: First view's cosines with the prototypes. [B, K]
        b: Second view's. [B, K]
        temperature: Of the prediction.
        epsilon: Of the assignment.
        iterations: Of the assignment.

    Returns:
        Local mean of the loss [], and the share of predictions whose greatest is the
        assignment's [].
    """
    logits = torch.cat([wide(a), wide(b)]) / temperature
    codes = torch.cat([sinkhorn(view, epsilon, iterations) for view in (b, a)])
    found = (logits.detach().argmax(1) == codes.argmax(1)).float().mean()
    return F.cross_entropy(logits, codes), found
