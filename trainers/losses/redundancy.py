"""Losses on statistics of the global batch. B local rows, G rows of all workers, D dimensions.

Every worker computes the statistics of all rows and returns the same value;
``gather`` sums what they ask of a row, so that averaged gradients are those of one worker.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.losses.gather import gather
from trainers.losses.precision import product, wide


def cross_correlation(a: Tensor, b: Tensor, eps: float = 1e-5) -> Tensor:
    """Correlate the dimensions of two views over the global batch.

    Args:
        a: First view's projections. [B, D]
        b: Second view's projections. [B, D]
        eps: Added to variances.

    Returns:
        Correlations in [-1, 1]. [D, D]
    """
    a, b = (_standardised(gather(wide(view)), eps) for view in (a, b))
    return product(a.T, b) / len(a)


def barlow_twins(a: Tensor, b: Tensor, weight: float) -> tuple[Tensor, Tensor, Tensor]:
    """Make the cross-correlation the identity (Zbontar et al., 2021, arXiv:2103.03230).

    ``sum_i (1 - C_ii)^2 + weight * sum_{i != j} C_ij^2``

    Args:
        a: First view's projections. [B, D]
        b: Second view's projections. [B, D]
        weight: Of the redundancy, lambda in the paper.

    Returns:
        The loss and its two sums, the second without its weight. [] each
    """
    correlation = cross_correlation(a, b)
    invariance = (1 - correlation.diagonal()).square().sum()
    redundancy = _off_diagonal(correlation).square().sum()
    return invariance + weight * redundancy, invariance, redundancy


def vicreg(
    a: Tensor, b: Tensor, weights: tuple[float, float, float]
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Invariance, variance and covariance (Bardes et al., 2022, arXiv:2105.04906).

    As in the paper's Algorithm 1: mean squared difference of the views;
    ``mean_d relu(1 - sqrt(Var_d + 1e-4))`` and ``sum_{i != j} Cov_ij^2 / D`` of both views.

    Args:
        a: First view's projections. [B, D]
        b: Second view's projections. [B, D]
        weights: Of the three terms.

    Returns:
        The loss [], and the three terms without their weights. [] each
    """
    a, b = gather(wide(a)), gather(wide(b))
    spreads, shared = zip(*(_spread_and_covariance(view) for view in (a, b)), strict=True)
    terms = F.mse_loss(a, b), spreads[0] + spreads[1], shared[0] + shared[1]
    loss = weights[0] * terms[0] + weights[1] * terms[1] + weights[2] * terms[2]
    return loss, terms


def _spread_and_covariance(rows: Tensor) -> tuple[Tensor, Tensor]:
    centred = rows - rows.mean(0)
    covariance = product(centred.T, centred) / (len(rows) - 1)
    deviation = (centred.square().sum(0) / (len(rows) - 1) + 1e-4).sqrt()
    return F.relu(1 - deviation).mean(), _off_diagonal(covariance).square().sum() / rows.shape[1]


def _standardised(rows: Tensor, eps: float) -> Tensor:
    return (rows - rows.mean(0)) / (rows.var(0, correction=0) + eps).sqrt()


def _off_diagonal(matrix: Tensor) -> Tensor:
    return matrix - torch.diag(matrix.diagonal())
