"""Predict how the tiles of an image were shuffled."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import cache
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
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
from trainers.patches import CELLS, Layout, PatchConfig, PatchTower, cut

_ORDER, _LAYOUT = 1, 2
_TILES = CELLS**2


class Jigsaw(Objective):
    """How an image's tiles were shuffled (Noroozi and Favaro, 2016, arXiv:1603.09246)."""

    class Config(core.Config):
        """The tower, the augmentation before cutting, the tiles and the head.

        Attributes:
            image: Image tower, built for the side ``patches.resolution`` gives; the encoder
                reduces whole images to that side.
            augmentation: Of the whole image (a mirror leaves the task as it is).
            patches: Layout of the tiles, and what is hidden from the tower.
            permutations: How many there are to tell apart.
            hidden: Width of the head's hidden layer.
        """

        image: Annotated[core.Config, TOWERS] = ConvNext.Config()
        augmentation: Annotated[core.Config, AUGMENTATIONS] = CropColour.Config()
        patches: PatchConfig = PatchConfig(gap=0.1, jitter=0.15, channels="keep")
        permutations: int = Field(default=64, ge=2, le=1000)
        hidden: int = 512

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        self.views = {"image": ImageView(augmentation=config.augmentation)}
        self.layout = Layout.fit(config.patches, surroundings.size)
        self.tower = PatchTower(config.patches, config.image, surroundings)
        self.head = nn.Sequential(
            nn.Linear(_TILES * self.tower.width, config.hidden),
            nn.LayerNorm(config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.permutations),
        )
        self.chance = 1 / config.permutations
        orders = torch.tensor(permutations(config.permutations, _TILES))
        self.orders: Tensor
        self.register_buffer("orders", orders, persistent=False)

    def forward(self, batch: Batch) -> LossOutput:
        """Cut tiles, shuffle them by the keys' draws and classify the permutation."""
        which = integers(batch.keys, _ORDER, len(self.orders))
        corners = self.layout.places(batch.keys, _LAYOUT)
        shown = corners.gather(1, self.orders[which][:, :, None].expand(-1, -1, 2))
        tiles = cut(batch.views["image"], shown, self.layout.side).flatten(0, 1)
        features = self.tower(tiles, part_keys(batch.keys, _TILES).flatten())
        logits = self.head(features.view(len(batch), -1))
        right = (logits.detach().argmax(1) == which).float().mean()
        return LossOutput(F.cross_entropy(logits, which), {"accuracy": right})

    def encoders(self) -> Mapping[str, nn.Module]:
        """The tower, on whole images that it reduces itself."""
        return {"image": self.tower}


@cache
def permutations(count: int, tiles: int) -> tuple[tuple[int, ...], ...]:
    """Choose permutations that differ in many places, greedily (section 3.3 of the paper).

    The identity is the first. Each next one has the largest smallest Hamming
    distance to those chosen; among equals the largest mean distance, then the
    first in lexicographic order.

    Args:
        count: How many, at most ``tiles`` factorial.
        tiles: Things to permute, at most 9.
    """
    every = np.array(list(itertools.permutations(range(tiles))), dtype=np.int8)
    smallest = np.full(len(every), tiles + 1, dtype=np.int64)
    total = np.zeros(len(every), dtype=np.int64)
    chosen = [0]
    while len(chosen) < count:
        distance = (every != every[chosen[-1]]).sum(1)
        smallest = np.minimum(smallest, distance)
        total += distance
        chosen.append(int((smallest * (tiles * count) + total).argmax()))
    return tuple(tuple(int(tile) for tile in every[place]) for place in chosen)
