"""Heads on top of a tower that objectives share; evaluations throw them away.

B local rows, D dimensions.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainers.losses.gather import gather
from trainers.losses.precision import wide

_EPS = 1e-5


def mlp(
    inputs: int, hidden: int, outputs: int, layers: int = 2, bias: bool = True
) -> nn.Sequential:
    """Build a projection or prediction head.

    Hidden layers are normalised over the global batch. With layer normalisation in
    its place BYOL and SwAV collapsed within 60 steps of their recipes.

    Args:
        inputs: Width of what goes in.
        hidden: Width of the hidden layers.
        outputs: Width of what comes out.
        layers: Linear layers, at least 1.
        bias: Of the last layer; a loss that subtracts the batch's mean has no gradient for it.

    Returns:
        A module [B, inputs] -> [B, outputs].
    """
    widths = [inputs] + [hidden] * (layers - 1)
    # Else the bias that a tower ends with would be subtracted with the batch's mean,
    # and Adam would turn the rounding errors that are its gradient into steps.
    parts: list[nn.Module] = [nn.LayerNorm(inputs, elementwise_affine=False)]
    for before, after in pairwise(widths):
        parts += [nn.Linear(before, after, bias=False), GlobalNorm(after), nn.GELU()]
    return nn.Sequential(*parts, nn.Linear(widths[-1], outputs, bias=bias))


def row_mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Build a head that looks at each row by itself. [..., inputs] -> [..., outputs]."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, outputs)
    )


class GlobalNorm(nn.Module):
    """Batch normalisation by the global batch (Ioffe and Szegedy, 2015, arXiv:1502.03167).

    The number of workers changes nothing. It keeps no running statistics: a head
    is never used outside training.

    Args:
        width: Number of dimensions.
    """

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, rows: Tensor) -> Tensor:
        """Standardise each dimension over all workers' rows, scale and shift. [B, D] -> [B, D]."""
        exact = wide(rows)
        # Equally many rows on each worker: the mean of their means is that of all rows.
        centred = exact - gather(exact.mean(0, keepdim=True)).mean(0)
        variance = gather(centred.square().mean(0, keepdim=True)).mean(0)
        standard = (centred / (variance + _EPS).sqrt()).to(rows.dtype)
        return standard * self.weight + self.bias


class Prototypes(nn.Module):
    """Cosines with learned directions.

    Directions are brought to unit length where they are used: writing to
    weights would not reach the optimizer's copies, nor shards of other workers.

    Args:
        width: Of the embeddings.
        count: Number of directions.
    """

    def __init__(self, width: int, count: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(count, width))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Cosines of embeddings of any length. [B, width] -> [B, count]."""
        return F.linear(F.normalize(embeddings, dim=1), F.normalize(self.weight, dim=1))
