"""Residual image tower with group normalisation."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from pipelines import core
from trainers.core.objective import Surroundings

_GROUPS = 8


class Resnet(nn.Module):
    """Residual convolutions (He et al., 2016, arXiv:1512.03385), the cheapest tower on a CPU.

    Group normalisation (Wu and He, 2018, arXiv:1803.08494) takes the place of
    the library's batch normalisation.
    """

    class Config(core.Config):
        """Sizes of the stages.

        Attributes:
            widths: Channels of each stage, multiples of 8; the stem has the first's.
            depths: Blocks of each stage.
            pooling: ``mean`` over places, or ``flat``: all places side by side, for
                pictures in which it matters where something is.
        """

        widths: tuple[int, ...] = (48, 96, 192)
        depths: tuple[int, ...] = (1, 1, 1)
        pooling: Literal["mean", "flat"] = "mean"

    def __init__(self, config: Config, surroundings: Surroundings):
        from transformers import ResNetConfig, ResNetModel

        super().__init__()
        self._pooling = config.pooling
        self._model = ResNetModel(
            ResNetConfig(
                embedding_size=config.widths[0],
                hidden_sizes=list(config.widths),
                depths=list(config.depths),
                layer_type="basic",
            )
        )
        _replace_norms(self._model)
        side = -(-surroundings.size // (4 * 2 ** (len(config.widths) - 1)))
        self.width = config.widths[-1] * (side * side if config.pooling == "flat" else 1)

    def forward(self, images: Tensor) -> Tensor:
        """Features. [B, 3, H, W] -> [B, width]."""
        places = self.grid(images)
        return places.mean((2, 3)) if self._pooling == "mean" else places.flatten(1)

    def grid(self, images: Tensor) -> Tensor:
        """Features of places, before they are pooled. [B, 3, H, W] -> [B, D, h, w]."""
        images = images.contiguous(memory_format=torch.channels_last)
        places: Tensor = self._model(images).last_hidden_state
        return places


def _replace_norms(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.GroupNorm(_GROUPS, child.num_features))
        else:
            _replace_norms(child)
