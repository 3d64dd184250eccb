"""Attention over the frames of a clip as video tower."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from pipelines import core
from trainers.core.objective import Surroundings
from trainers.models import TOWERS
from trainers.models._transformer import encoder, positions


class FrameTransformer(nn.Module):
    """An image tower reads each frame, a transformer their features in order.

    The factorised encoder of Arnab et al., 2021 (ViViT, arXiv:2103.15691, model 2), with
    any image tower in the place of the spatial transformer; mean-pooled over time.
    """

    class Config(core.Config):
        """The image tower and the sizes of the temporal transformer.

        Attributes:
            image: Image tower, built for the frames' side.
            width: Of the temporal transformer.
            layers: Of it.
            heads: Of it.
        """

        image: Annotated[core.Config, TOWERS] = Field(
            default_factory=lambda: TOWERS.parse({"kind": "resnet"})
        )
        width: int = 192
        layers: int = 2
        heads: int = 4

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        self.width = self.time_width = config.width
        self.image = TOWERS.build(config.image, replace(surroundings, size=surroundings.frame_size))
        self._in = nn.Linear(self.image.width, config.width)
        self._time = encoder(config.width, config.layers, config.heads)

    def forward(self, clips: Tensor) -> Tensor:
        """Features. [B, T, 3, H, W] -> [B, width]."""
        return self.over_time(clips).mean(1)

    def over_time(self, clips: Tensor) -> Tensor:
        """Features of each frame. [B, T, 3, H, W] -> [B, T, time_width]."""
        features = self.image(clips.flatten(0, 1)).view(*clips.shape[:2], -1)
        tokens = self._in(features)
        tokens = tokens + positions((clips.shape[1],), self.width, tokens)
        states: Tensor = self._time(tokens)
        return states
