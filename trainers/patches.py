"""Patches of images in a jittered 3x3 layout, and the tower that reads them.

B images, P patches of an image, p pixels a patch's side, S pixels an image's side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pipelines import core
from pipelines.core import ConfigError
from pipelines.core.randomness import integers, normal, uniform
from trainers.core.objective import Surroundings
from trainers.models import TOWERS

CELLS = 3
_CHANNEL, _NOISE = 1 << 20, 1 << 21
_FILL = 0.01
_LUMA = (0.299, 0.587, 0.114)
_GREEN_MAGENTA = (-1.0, 2.0, -1.0)


class PatchConfig(core.Config):
    """How patches are laid out and what is hidden from the tower.

    Attributes:
        gap: Smallest distance between neighbours, in sides of a patch.
        jitter: Range over which each patch moves along each axis, in sides of a patch.
        channels: Guard against chromatic aberration, by which a lens tells where a patch was.
            ``drop``: each patch keeps one channel at random, noise of a hundredth of its
            deviation fills the others; nothing of the shift between channels is left.
            ``project``: the green-magenta axis is removed (arXiv:1505.05192, section 3.1).
            ``grey``: luminance in all channels. These two hide colour fringes, but not the
            double edges in what is left. ``keep``: no guard.
        normalise: Whether each patch has mean 0 and deviation 1 in each channel.
        resolution: Side at which the tower sees patches and whole images, in sides of an image.
    """

    gap: float = Field(default=0.5, ge=0)
    jitter: float = Field(default=0.15, ge=0)
    channels: Literal["drop", "project", "grey", "keep"] = "drop"
    normalise: bool = True
    resolution: float = Field(default=0.5, gt=0, le=1)


@dataclass(frozen=True)
class Layout:
    """3x3 patches in an image; all in pixels.

    Attributes:
        size: Side of the image.
        side: Side of a patch.
        gap: Smallest distance between neighbours.
        jitter: Largest move of a patch to the right or down.
    """

    size: int
    side: int
    gap: int
    jitter: int

    @classmethod
    def fit(cls, config: PatchConfig, size: int) -> Layout:
        """Find the largest patches that fit.

        Raises:
            ConfigError: Not even patches of one pixel do.
        """
        for side in range(size // CELLS, 0, -1):
            layout = cls(size, side, round(config.gap * side), round(config.jitter * side))
            if layout.extent <= size:
                return layout
        raise ConfigError(f"no 3x3 patches fit an image of {size} pixels; raise data.decode.size")

    @property
    def extent(self) -> int:
        """Side of the square in which all patches lie."""
        return CELLS * (self.side + self.jitter) + (CELLS - 1) * self.gap

    def places(self, keys: Tensor, stream: int) -> Tensor:
        """Upper left corners by the samples' keys; the layout itself lies anywhere in the image.

        Args:
            keys: Keys of the samples. [B] int64
            stream: Of random numbers.

        Returns:
            Row and column of each corner, patches in reading order. [B, 9, 2] int64
        """
        u = uniform(keys, stream, 2 * CELLS**2 + 2)
        start = (u[:, None, -2:] * (self.size - self.extent + 1)).long()
        moves = (u[:, :-2].view(-1, CELLS**2, 2) * (self.jitter + 1)).long()
        cells = torch.arange(CELLS, device=keys.device) * (self.side + self.gap + self.jitter)
        return start + torch.cartesian_prod(cells, cells) + moves


def cut(images: Tensor, corners: Tensor, side: int) -> Tensor:
    """Cut out patches.

    Args:
        images: [B, C, S, S]
        corners: Row and column of upper left corners. [B, P, 2] int64
        side: p.

    Returns:
        The images' own pixels. [B, P, C, p, p]
    """
    along = torch.arange(side, device=images.device)
    rows, columns = (corners[:, :, :, None] + along).unbind(2)
    samples = torch.arange(len(images), device=images.device)[:, None, None, None]
    found = images.permute(0, 2, 3, 1)[samples, rows[:, :, :, None], columns[:, :, None, :]]
    return found.permute(0, 1, 4, 2, 3)


def recolour(images: Tensor, channels: str) -> Tensor:
    """Apply the guards that are one linear map for all patches. [N, 3, p, p]."""
    if channels == "grey":
        luma = images.new_tensor(_LUMA).view(3, 1, 1)
        return (images * luma).sum(1, keepdim=True).expand_as(images)
    if channels == "project":
        axis = images.new_tensor(_GREEN_MAGENTA).view(3, 1, 1)
        return images - (images * axis).sum(1, keepdim=True) * axis / (axis * axis).sum()
    return images


def standardise(images: Tensor) -> Tensor:
    """Give each channel of each patch mean 0 and deviation 1. [N, 3, p, p]."""
    deviation, mean = torch.std_mean(images, (2, 3), correction=0, keepdim=True)
    # What is one colour is kept so: its rounding errors are no pattern.
    return (images - mean) / deviation.clamp(min=1e-3)


def keep_one(images: Tensor, keys: Tensor) -> Tensor:
    """Keep one channel of each patch and fill the others with noise.

    Args:
        images: Patches. [N, 3, p, p]
        keys: Keys of the patches. [N] int64
    """
    kept = F.one_hot(integers(keys, _CHANNEL, 3), 3).bool()[:, :, None, None]
    deviation = (images.std((2, 3), correction=0) * kept[:, :, 0, 0]).sum(1)[:, None, None, None]
    noise = normal(keys, _NOISE, images[0].numel()).view_as(images)
    return torch.where(kept, images, _FILL * deviation * noise)


class PatchTower(nn.Module):
    """One tower for patches and whole images.

    It is built for one side, a share (``resolution``) of an image's; patches are
    enlarged and whole images reduced to it, so that towers bound to a size serve
    too. Whole images keep all channels under the guard ``drop``; the guards
    ``project`` and ``grey`` and the normalisation apply to them as to patches.
    """

    def __init__(self, config: PatchConfig, image: core.Config, surroundings: Surroundings):
        super().__init__()
        self._config = config
        self.side = max(1, round(config.resolution * surroundings.size))
        self.tower = TOWERS.build(image, replace(surroundings, size=self.side))
        self.width: int = self.tower.width

    def forward(self, images: Tensor, keys: Tensor | None = None) -> Tensor:
        """Features.

        Args:
            images: Patches or whole images, in [-1, 1]. [N, 3, p, p]
            keys: Keys of patches, for the guard ``drop``; None for whole images. [N] int64

        Returns:
            [N, width]
        """
        features: Tensor = self.tower(self._seen(images, keys))
        return features

    def grid(self, images: Tensor) -> Tensor:
        """Features of places of whole images. [N, 3, H, W] -> [N, width, h, w]."""
        places: Tensor = self.tower.grid(self._seen(images, None))
        return places

    def _seen(self, images: Tensor, keys: Tensor | None) -> Tensor:
        images = recolour(images, self._config.channels)
        if self._config.normalise:
            images = standardise(images)
        if keys is not None and self._config.channels == "drop":
            images = keep_one(images, keys)
        side = (self.side, self.side)
        return F.interpolate(images, side, mode="bilinear", antialias=True)
