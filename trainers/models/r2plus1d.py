"""Residual network of convolutions in space and in time as video tower."""

from __future__ import annotations

from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor, nn

from pipelines import core
from pipelines.core import ConfigError
from trainers.core.objective import Surroundings

_GROUPS = 8


class R2plus1d(nn.Module):
    """Each convolution in space is followed by one in time, R(2+1)D of Tran et al., 2018.

    arXiv:1711.11248. From the first layer on it sees what moves, where a tower that reads
    frame by frame sees it only in the order of features of whole frames. Group
    normalisation (Wu and He, 2018, arXiv:1803.08494) takes the place of batch
    normalisation.
    """

    class Config(core.Config):
        """Sizes.

        Attributes:
            widths: Channels of each residual block, multiples of 8; each block but the first
                halves the sides and the number of frames.
            stride: Of the first layer, in pixels.
        """

        widths: tuple[int, ...] = Field(default=(32, 64, 128), min_length=1)
        stride: int = Field(default=2, ge=1)

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        del surroundings  # it reads frames of any side
        wrong = [width for width in config.widths if width % _GROUPS]
        if wrong:
            raise ConfigError(f"a width of {wrong[0]} is no multiple of {_GROUPS}")
        first = config.widths[0]
        self.width = self.time_width = config.widths[-1]
        self._stem = nn.Sequential(*_pair(3, first, 5, (1, config.stride)), nn.ReLU())
        changes = [_Block(*sides, 2) for sides in pairwise(config.widths)]
        self._blocks = nn.ModuleList([_Block(first, first, 1), *changes])

    def forward(self, clips: Tensor) -> Tensor:
        """Features. [B, T, 3, H, W] -> [B, width]."""
        return self.over_time(clips).mean(1)

    def over_time(self, clips: Tensor) -> Tensor:
        """Features of each moment that is left. [B, T, 3, H, W] -> [B, T', time_width]."""
        films = clips.transpose(1, 2).contiguous(memory_format=torch.channels_last_3d)
        places: Tensor = self._stem(films)
        for block in self._blocks:
            places = block(places)
        return places.mean((3, 4)).transpose(1, 2)


class _Block(nn.Module):
    """Two pairs of convolutions and what they add to. [B, C, T, H, W] -> [B, C', T', H', W']."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self._change = nn.Sequential(
            *_pair(before, after, 3, (stride, stride)), nn.ReLU(), *_pair(after, after, 3, (1, 1))
        )
        self._short: nn.Module = nn.Identity()
        if stride > 1 or before != after:
            self._short = nn.Sequential(
                nn.Conv3d(before, after, 1, stride, bias=False), nn.GroupNorm(_GROUPS, after)
            )

    def forward(self, places: Tensor) -> Tensor:
        changed: Tensor = nn.functional.relu(self._short(places) + self._change(places))
        return changed


def _pair(before: int, after: int, side: int, strides: tuple[int, int]) -> list[nn.Module]:
    """A convolution in space and one in time; ``strides`` are those in time and in space."""
    time, space = strides
    padding = (0, side // 2, side // 2)
    return [
        nn.Conv3d(before, after, (1, side, side), (1, space, space), padding, bias=False),
        nn.GroupNorm(_GROUPS, after),
        nn.ReLU(),
        nn.Conv3d(after, after, (3, 1, 1), (time, 1, 1), (1, 0, 0), bias=False),
        nn.GroupNorm(_GROUPS, after),
    ]
