"""Random resized crop, flip, colour jitter, grey and blur: the views of SimCLR."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

from pipelines import core
from pipelines.augment import _colour as colour
from pipelines.augment import _geometry as geometry
from pipelines.augment._change import change
from pipelines.augment._pieces import in_pieces
from pipelines.core.fused import fused
from pipelines.core.randomness import uniform


class CropColour:
    """Views of Chen et al., 2020 (SimCLR, arXiv:2002.05709), as one resampling and one matrix."""

    class Config(core.Config):
        """Strengths; probabilities 0, ``area`` (1, 1) and ``aspect`` 1 leave images as they are.

        Attributes:
            area: Range of the crop's share of the image.
            aspect: Largest stretch of the crop's sides against each other.
            flip: Probability of mirroring.
            jitter: Probability of colour jitter.
            brightness: Largest relative change.
            contrast: Largest relative change.
            saturation: Largest relative change.
            hue: Largest change, in turns.
            grey: Probability of grey.
            blur: Probability of Gaussian blur.
            sigma: Range of its width, in pixels.
        """

        area: tuple[float, float] = (0.3, 1.0)
        aspect: float = Field(default=4 / 3, gt=0)
        flip: float = 0.5
        jitter: float = 0.8
        brightness: float = 0.4
        contrast: float = 0.4
        saturation: float = 0.4
        hue: float = 0.1
        grey: float = 0.2
        blur: float = 0.0
        sigma: tuple[float, float] = (0.1, 1.5)

    def __init__(self, config: Config):
        self.config = config

    def __call__(self, images: Tensor, keys: Tensor, stream: int) -> Tensor:
        """Augment images [B, 3, H, W] in [0, 1], each by the numbers of its key."""
        c = self.config
        maps, matrix, offset, sigma = self._numbers(uniform(keys, stream, 14))
        # No weight that shows lies beyond; 4 for widths up to 1.5 pixels.
        radius = max(4, math.ceil(c.sigma[1] * 8 / 3))

        def view(some: Tensor, which: slice) -> Tensor:
            some = change(some, maps[which], matrix[which], offset[which], None)
            return colour.blur(some, sigma[which], radius) if c.blur else some

        return in_pieces(view, images)

    @fused
    def _numbers(self, drawn: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        c, u = self.config, drawn.unbind(1)
        sigma = torch.where(u[12] < c.blur, geometry.between(u[13], *c.sigma), 0.0)
        return self._crop(u[:5]), *self._jitter(u[5:12]), sigma

    def _crop(self, u: tuple[Tensor, ...]) -> Tensor:
        c = self.config
        area = geometry.between(u[0], *c.area)
        log = math.log(c.aspect)
        stretch = torch.exp(geometry.between(u[1], -log, log) / 2)
        width = (area.sqrt() * stretch).clamp(max=1)
        height = (area.sqrt() / stretch).clamp(max=1)
        shift_x = (1 - width) * (2 * u[2] - 1)
        shift_y = (1 - height) * (2 * u[3] - 1)
        mirror = torch.where(u[4] < c.flip, -1.0, 1.0)
        zero = torch.zeros_like(area)
        return geometry.affine(mirror / width, 1 / height, zero, zero, shift_x, shift_y)

    def _jitter(self, u: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        c = self.config
        on = (u[0] < c.jitter).float()

        def gain(number: Tensor, strength: float) -> Tensor:
            return 1 + on * geometry.between(number, -strength, strength)

        state = colour.identity(len(on), on.device)
        state = colour.brightness(state, gain(u[1], c.brightness))
        state = colour.contrast(state, gain(u[2], c.contrast))
        state = colour.saturation(state, gain(u[3], c.saturation))
        state = colour.hue(state, on * geometry.between(u[4], -c.hue, c.hue))
        return colour.saturation(state, 1 - (u[5] < c.grey).float())
