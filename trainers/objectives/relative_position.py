"""Predict where a patch lies from another."""

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
from pipelines.core.randomness import integers, part_keys
from pipelines.views import ImageView
from trainers.core.objective import LossOutput, Objective, Surroundings
from trainers.models import TOWERS
from trainers.models.convnext import ConvNext
from trainers.patches import Layout, PatchConfig, PatchTower, cut

_PLACE, _LAYOUT = 1, 2
_CENTRE, _NEIGHBOURS = 4, 8


class RelativePosition(Objective):
    """Which of 8 neighbours of a patch another is (Doersch et al., 2015, arXiv:1505.05192)."""

    class Config(core.Config):
        """The tower, the augmentation before cutting, the patches and the head.

        Attributes:
            image: Image tower, built for the side ``patches.resolution`` gives; the encoder
                reduces whole images to that side.
            augmentation: Of the whole image (a mirror leaves the task as it is).
            patches: Layout, and what is hidden from the tower.
            hidden: Width of the head's hidden layer.
        """

        image: Annotated[core.Config, TOWERS] = ConvNext.Config()
        augmentation: Annotated[core.Config, AUGMENTATIONS] = CropColour.Config()
        patches: PatchConfig = PatchConfig()
        hidden: int = 512

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        self.views = {"image": ImageView(augmentation=config.augmentation)}
        self.layout = Layout.fit(config.patches, surroundings.size)
        self.tower = PatchTower(config.patches, config.image, surroundings)
        self.head = nn.Sequential(
            nn.Linear(2 * self.tower.width, config.hidden),
            nn.LayerNorm(config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, _NEIGHBOURS),
        )
        self.chance = 1 / _NEIGHBOURS

    def forward(self, batch: Batch) -> LossOutput:
        """Cut the middle and one neighbour by the keys' draws, and classify which it is."""
        which = integers(batch.keys, _PLACE, _NEIGHBOURS)
        pairs = pair(batch.views["image"], self.layout, batch.keys, which)
        features = self.tower(pairs.flatten(0, 1), part_keys(batch.keys, 2).flatten())
        logits = self.head(features.view(len(batch), -1))
        right = (logits.detach().argmax(1) == which).float().mean()
        return LossOutput(F.cross_entropy(logits, which), {"accuracy": right})

    def encoders(self) -> Mapping[str, nn.Module]:
        """The tower, on whole images that it reduces itself."""
        return {"image": self.tower}


def pair(images: Tensor, layout: Layout, keys: Tensor, which: Tensor) -> Tensor:
    """Cut the patch in the middle and one of its neighbours.

    Args:
        images: [B, 3, S, S]
        layout: Of the 3x3 patches, p pixels each.
        keys: Keys of the samples. [B] int64
        which: Neighbours in reading order, 0 to 7. [B] int64

    Returns:
        The middle and the neighbour. [B, 2, 3, p, p]
    """
    neighbour = which + (which >= _CENTRE).long()
    chosen = torch.stack([torch.full_like(which, _CENTRE), neighbour], 1)
    corners = layout.places(keys, _LAYOUT).gather(1, chosen[:, :, None].expand(-1, -1, 2))
    return cut(images, corners, layout.side)
