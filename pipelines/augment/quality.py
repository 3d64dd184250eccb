"""Random sharpness and noise: hides the quality that a codec gave a picture."""

from __future__ import annotations

import math

from torch import Tensor

from pipelines import core
from pipelines.augment import _colour as colour
from pipelines.augment._pieces import in_pieces
from pipelines.core.randomness import uniform

_NOISE = 1 << 16
_SPREAD = math.sqrt(12.0)  # of a uniform number of deviation 1


class Quality:
    """Blur of random width and grey noise of random strength.

    Drawn for each frame of a clip, it drowns what differs between frames because of
    where they stand in a coded video. It does not remove it: what is to be hidden
    must be small against the ranges.
    """

    class Config(core.Config):
        """Ranges from which each picture draws.

        Attributes:
            blur: Width of the Gaussian, in pixels.
            noise: Deviation of the noise, in shares of the range of pixels.
        """

        blur: tuple[float, float] = (0.5, 1.5)
        noise: tuple[float, float] = (0.0, 0.1)

    def __init__(self, config: Config):
        self.config = config

    def __call__(self, images: Tensor, keys: Tensor, stream: int) -> Tensor:
        """Augment images [B, 3, H, W] in [0, 1], each by the numbers of its key."""
        c = self.config
        u = uniform(keys, stream, 2)
        sigma = c.blur[0] + (c.blur[1] - c.blur[0]) * u[:, 0]
        strength = c.noise[0] + (c.noise[1] - c.noise[0]) * u[:, 1]
        radius = max(4, math.ceil(3 * c.blur[1]))
        places = images.shape[2] * images.shape[3]

        def change(some: Tensor, which: slice) -> Tensor:
            if c.blur[1]:
                some = colour.blur(some, sigma[which], radius)
            if not c.noise[1]:
                return some
            noise = uniform(keys[which], stream + _NOISE, places) - 0.5
            noise = noise.mul_(_SPREAD * strength[which, None]).view(-1, 1, *some.shape[2:])
            return (some + noise).clamp_(0, 1)

        return in_pieces(change, images)
