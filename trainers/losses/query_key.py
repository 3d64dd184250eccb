"""Contrast of queries with a teacher's keys. B local rows, G rows of all workers, D dimensions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.core.collective import world
from trainers.losses.gather import gather
from trainers.losses.precision import product, wide


def info_nce(
    queries: Tensor, keys: Tensor, temperature: float, samples: Tensor
) -> tuple[Tensor, Tensor]:
    """Tell a query's own key from all others (van den Oord et al., 2018, arXiv:1807.03748).

    ``l_i = -log(exp(cos(q_i, k_i)/t) / sum_j exp(cos(q_i, k_j)/t))``, j over all G keys but
    those of another copy of the same sample, where a batch has it twice.

    Args:
        queries: Of any length. [B, D]
        keys: Of any length. [B, D]
        temperature: t.
        samples: Equal numbers for rows of the same sample. [B] int64

    Returns:
        Local mean of the loss [], and the share of queries whose key is nearest [].
    """
    queries, keys = F.normalize(wide(queries), dim=1), gather(F.normalize(wide(keys), dim=1))
    own = torch.arange(len(queries), device=queries.device) + world()[0] * len(queries)
    hidden = (samples[:, None] == gather(samples)).scatter(1, own[:, None], False)  # [B, G]
    logits = (product(queries, keys.T) / temperature).masked_fill(hidden, float("-inf"))
    found = (logits.detach().argmax(1) == own).float().mean()
    return F.cross_entropy(logits, own), found
