"""Affine maps and random colour mixing: for drawings, where crops lose the subject."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pipelines import core
from pipelines.augment import _colour as colour
from pipelines.augment import _geometry as geometry
from pipelines.augment._change import change
from pipelines.augment._pieces import in_pieces
from pipelines.core.fused import fused
from pipelines.core.randomness import normal, uniform


class AffineColour:
    """Small zoom, turn, shear and shift, and a random linear map of colours that keeps white near.

    One resampling and one matrix a sample. Outside the picture is white.
    """

    class Config(core.Config):
        """Strengths; 0 everywhere leaves images as they are.

        Attributes:
            zoom: Largest magnification either way, as a logarithm.
            aspect: Largest stretch of width, and as much the other way of height, as a logarithm.
            angle: Largest rotation, in degrees.
            shear: Largest shear.
            shift: Largest shift, in half widths.
            flip: Probability of mirroring.
            brightness: Largest offset.
            contrast: Largest gain about white, as a logarithm.
            saturation: Largest gain, as a logarithm.
            hue: Largest rotation, in turns.
            grey: Probability of grey.
            mixing: Standard deviation of noise added to the colour matrix, times 3.
        """

        zoom: float = 0.25
        aspect: float = 0.15
        angle: float = 12.0
        shear: float = 0.1
        shift: float = 0.1
        flip: float = 0.0
        brightness: float = 0.2
        contrast: float = 0.3
        saturation: float = 0.5
        hue: float = 0.1
        grey: float = 0.1
        mixing: float = 0.15

    def __init__(self, config: Config):
        self.config = config

    def __call__(self, images: Tensor, keys: Tensor, stream: int) -> Tensor:
        """Augment images [B, 3, H, W] in [0, 1], each by the numbers of its key."""
        noise = normal(keys, stream + (1 << 16), 9).view(-1, 3, 3)
        maps, matrix, offset = self._numbers(uniform(keys, stream, 12), noise)

        def view(some: Tensor, which: slice) -> Tensor:
            return change(some, maps[which], matrix[which], offset[which], 1.0)

        return in_pieces(view, images)

    @fused
    def _numbers(self, drawn: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        u = drawn.unbind(1)
        return self._maps(u[:7]), *self._colours(u[7:], noise)

    def _maps(self, u: tuple[Tensor, ...]) -> Tensor:
        c = self.config

        def around(number: Tensor, strength: float) -> Tensor:
            return geometry.between(number, -strength, strength)

        zoom, stretch = around(u[0], c.zoom), around(u[1], c.aspect)
        mirror = torch.where(u[6] < c.flip, -1.0, 1.0)
        return geometry.affine(
            mirror * torch.exp(zoom + stretch),
            torch.exp(zoom - stretch),
            around(u[2], math.radians(c.angle)),
            around(u[3], c.shear),
            around(u[4], c.shift),
            around(u[5], c.shift),
        )

    def _colours(self, u: tuple[Tensor, ...], noise: Tensor) -> tuple[Tensor, Tensor]:
        c = self.config

        def around(number: Tensor, strength: float) -> Tensor:
            return geometry.between(number, -strength, strength)

        state = colour.identity(len(noise), noise.device)
        state = colour.hue(state, around(u[0], c.hue))
        vivid = torch.exp(around(u[1], c.saturation)) * (u[2] >= c.grey)
        matrix, _ = colour.saturation(state, vivid)
        matrix = matrix + noise * (c.mixing / 3)
        matrix = matrix * torch.exp(around(u[3], c.contrast))[:, None, None]
        # y = 1 - (M (1 - x) + b): the changes are those of ink on white paper.
        return matrix, 1 - matrix.sum(2) - around(u[4], c.brightness)[:, None]
