"""What transformers over space, time and frequency share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pipelines.core import ConfigError


def encoder(width: int, layers: int, heads: int) -> nn.Module:
    """Build pre-norm layers and a last norm. [B, N, width] -> [B, N, width].

    Raises:
        ConfigError: The heads do not divide the width.
    """
    if width % heads:
        raise ConfigError(f"a width of {width} is no multiple of {heads} heads")
    made = nn.TransformerEncoder(
        _layer(width, heads), layers, nn.LayerNorm(width), enable_nested_tensor=False
    )
    # Torch copies one layer, and copies all start alike.
    made.layers = nn.ModuleList(_layer(width, heads) for _ in range(layers))
    return made


class _Layer(nn.TransformerEncoderLayer):
    """Torch's: of a module whose ``forward`` is torch's own nothing is compiled."""

    def forward(self, *states: Any, **masks: Any) -> Tensor:
        """As torch's."""
        found: Tensor = super().forward(*states, **masks)
        return found


def _layer(width: int, heads: int) -> nn.TransformerEncoderLayer:
    return _Layer(
        width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )


def positions(sides: tuple[int, ...], width: int, like: Tensor) -> Tensor:
    """Sines and cosines of places on a grid (Vaswani et al., 2017, arXiv:1706.03762).

    Each axis has an equal share of the dimensions; what does not divide stays 0. They are
    not learned, so that a tower reads grids of any size.

    Args:
        sides: Of the grid, at least one.
        width: Dimensions.
        like: Gives device and type.

    Returns:
        Places in reading order. [N, width]
    """
    share = width // (2 * len(sides))
    rates = 10000.0 ** -(torch.arange(share, device=like.device) / max(1, share))
    axes = [torch.arange(side, device=like.device) for side in sides]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)
    angles = (grid[:, :, None] * rates).flatten(1)
    table = torch.cat([angles.sin(), angles.cos()], 1)
    return nn.functional.pad(table, (0, width - table.shape[1])).to(like.dtype)
