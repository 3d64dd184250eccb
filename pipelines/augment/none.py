"""No augmentation."""

from __future__ import annotations

from torch import Tensor

from pipelines import core


class Nothing:
    """Leaves images as they are."""

    class Config(core.Config):
        """Nothing to set."""

    def __init__(self, config: Config):
        self.config = config

    def __call__(self, images: Tensor, keys: Tensor, stream: int) -> Tensor:
        """Return the images."""
        return images
