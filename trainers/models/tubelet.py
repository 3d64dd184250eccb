"""Transformer over blocks of space and time as video tower."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from pipelines import core
from pipelines.core import ConfigError
from trainers.core.objective import Surroundings
from trainers.models._transformer import encoder, positions


class Tubelet(nn.Module):
    """Joint attention over tubelets (Arnab et al., 2021, arXiv:2103.15691), mean-pooled.

    With fixed positions in space and time, as in VideoMAE (Tong et al., 2022, arXiv:2203.12602).
    """

    class Config(core.Config):
        """Sizes.

        Attributes:
            width: Of the transformer.
            layers: Of it.
            heads: Of it.
            patch: Side of a tubelet, in pixels.
            depth: Frames of a tubelet.
        """

        width: int = 192
        layers: int = 4
        heads: int = 4
        patch: int = Field(default=16, ge=1)
        depth: int = Field(default=2, ge=1)

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        side = surroundings.frame_size
        if side % config.patch or side < config.patch:
            raise ConfigError(f"tubelets of {config.patch} pixels do not fit frames of {side}")
        self.width = self.time_width = config.width
        self._depth = config.depth
        size = (config.depth, config.patch, config.patch)
        self._cut = nn.Conv3d(3, config.width, size, size)
        self._encoder = encoder(config.width, config.layers, config.heads)

    def forward(self, clips: Tensor) -> Tensor:
        """Features. [B, T, 3, H, W] -> [B, width]; the last frame fills up the last tubelet."""
        return self.over_time(clips).mean(1)

    def over_time(self, clips: Tensor) -> Tensor:
        """Features of each tubelet's time. [B, T, 3, H, W] -> [B, T', time_width]."""
        short = -clips.shape[1] % self._depth
        if short:
            last = clips[:, -1:].expand(-1, short, -1, -1, -1)
            clips = torch.cat([clips, last], 1)
        blocks = self._cut(clips.transpose(1, 2))
        tokens = blocks.flatten(2).transpose(1, 2)
        tokens = tokens + positions(tuple(blocks.shape[2:]), self.width, tokens)
        states: Tensor = self._encoder(tokens)
        return states.view(len(states), blocks.shape[2], -1, self.width).mean(2)
