"""Contrast of queries with a teacher's keys. B local rows, G rows of all workers, D dimensions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.core.collective import world
from trainers.losses.gather import gather


def info_nce(queries: Tensor, keys: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Tell a query's own key from all others (van den Oord et al., 2018, arXiv:1807.03748).

    ``l_i = -log(exp(cos(q_i, k_i)/t) / sum_j exp(cos(q_i, k_j)/t))``, j over all G keys.

    Args:
        queries: Of any length. [B, D]
        keys: Of any length. [B, D]
        temperature: t.

    Returns:
        Local mean of the loss [], and the share of queries whose key is nearest [].
    """
    queries, keys = F.normalize(queries, dim=1), gather(F.normalize(keys, dim=1))
    logits = queries @ keys.T / temperature  # [B, G]
    own = torch.arange(len(queries), device=queries.device) + world()[0] * len(queries)
    found = (logits.detach().argmax(1) == own).float().mean()
    return F.cross_entropy(logits, own), found
