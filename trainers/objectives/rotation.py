"""Predict by how much an image was turned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines import core
from pipelines.augment import AUGMENTATIONS
from pipelines.augment.crop_colour import CropColour
from pipelines.core.batch import Batch
from pipelines.core.randomness import integers
from pipelines.views import ImageView
from trainers.core.objective import LossOutput, Objective, Surroundings
from trainers.models import TOWERS
from trainers.models.convnext import ConvNext

_STREAM = 1


class Rotation(Objective):
    """Which of 0, 90, 180 and 270 degrees (Gidaris et al., 2018, arXiv:1803.07728)."""

    class Config(core.Config):
        """The tower, and the augmentation before the turn (never a mirror: it hides it)."""

        image: Annotated[core.Config, TOWERS] = ConvNext.Config()
        augmentation: Annotated[core.Config, AUGMENTATIONS] = CropColour.Config(flip=0.0)

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        self.views = {"image": ImageView(augmentation=config.augmentation)}
        self.tower = TOWERS.build(config.image, surroundings)
        self.head = nn.Linear(self.tower.width, 4)
        self.chance = 1 / 4

    def forward(self, batch: Batch) -> LossOutput:
        """Turn every image by its key's draw and classify the turn."""
        turns = integers(batch.keys, _STREAM, 4)
        logits = self.head(self.tower(rotate(batch.views["image"], turns)))
        right = (logits.detach().argmax(1) == turns).float().mean()
        return LossOutput(F.cross_entropy(logits, turns), {"accuracy": right})

    def encoders(self) -> Mapping[str, nn.Module]:
        """The tower."""
        return {"image": self.tower}


def rotate(images: Tensor, turns: Tensor) -> Tensor:
    """Turn each image counter-clockwise by its number of quarter turns.

    Args:
        images: Square images. [B, 3, S, S]
        turns: 0 to 3. [B] int64
    """
    turned = torch.stack([torch.rot90(images, k, (2, 3)) for k in range(4)])
    return turned[turns, torch.arange(len(images), device=images.device)]
