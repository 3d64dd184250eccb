"""Exact nearest neighbours in bounded memory. N queries, M candidates, D dimensions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.core import UserError

_ENTRIES = 1 << 24  # similarities held at once
_VOTES = 1 << 20  # counted at once


def finite(vectors: Tensor) -> Tensor:
    """Return features or embeddings as they are, if they are numbers.

    Raises:
        UserError: Some are infinite or not a number.
    """
    if not bool(torch.isfinite(vectors).all()):
        raise UserError(
            "the model's outputs are not finite numbers: its training diverged; "
            "evaluate an earlier checkpoint, or train with a lower learning rate"
        )
    return vectors


def top_k(queries: Tensor, candidates: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the candidates of the highest cosine for every query, best first.

    At most 2^24 of the N x M cosines exist at a time.

    Args:
        queries: Of any length. [N, D]
        candidates: Of any length. [M, D]
        k: How many; K = min(k, M).

    Returns:
        Cosines [N, K] and places among the candidates [N, K] int64, on the CPU.

    Raises:
        UserError: A vector is not finite.
    """
    columns = F.normalize(finite(candidates), dim=1).T
    k = min(k, len(candidates))
    found = [
        (F.normalize(part, dim=1) @ columns).topk(k, dim=1)
        for part in torch.split(finite(queries), max(1, _ENTRIES // len(candidates)))
    ]
    scores = torch.cat([values.cpu() for values, _ in found])
    return scores, torch.cat([places.cpu() for _, places in found])


def vote(scores: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return the label with the greatest weight; of equal ones that of the nearest neighbour.

    Args:
        scores: Cosines, best first. [N, K]
        labels: Of the neighbours. [N, K] int64
        temperature: Weights are exp(cosine / temperature).

    Returns:
        [N] int64.
    """
    together = max(1, _VOTES // scores.shape[1])
    parts = zip(torch.split(scores, together), torch.split(labels, together), strict=True)
    return torch.cat([_winners(part, owners, temperature) for part, owners in parts])


def _winners(scores: Tensor, labels: Tensor, temperature: float) -> Tensor:
    # Relative to the nearest, or a low temperature would overflow.
    weights = ((scores - scores[:, :1]) / temperature).double().exp()
    # Labels numbered for each query by themselves: memory is that of the votes, not of all pairs
    # of them nor of all classes. Each label's are added up from the nearest on.
    ordered, order = labels.sort(1)
    numbers = F.pad((ordered[:, 1:] != ordered[:, :-1]).cumsum(1), (1, 0))
    numbers = torch.empty_like(order).scatter_(1, order, numbers)
    totals = torch.zeros_like(weights).scatter_add_(1, numbers, weights).gather(1, numbers)
    return labels.gather(1, totals.argmax(1, keepdim=True))[:, 0]
