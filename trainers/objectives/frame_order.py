"""Predict in which order frames of a clip are shown."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from pipelines import core
from pipelines.augment import AUGMENTATIONS
from pipelines.augment.crop_colour import CropColour
from pipelines.augment.none import Nothing
from pipelines.core import ConfigError
from pipelines.core.batch import Batch
from pipelines.core.randomness import integers
from pipelines.views import ClipView, LongEnoughView
from trainers.core.objective import ComparingObjective, LossOutput, Rows, Surroundings
from trainers.heads import row_mlp
from trainers.losses.classes import class_loss
from trainers.losses.precision import wide
from trainers.models import TOWERS
from trainers.models.resnet import Resnet

_ORDER = 1


class FrameOrder(ComparingObjective):
    """How frames were shuffled (Lee et al., 2017, arXiv:1708.01246).

    As there, frames are compared pair by pair, and the order is told from all pairs. An
    order and its reverse are one class, as in Shuffle and Learn (Misra et al., 2016,
    arXiv:1603.08561): much that moves looks alike backwards. Films too short for a clip are
    left out.
    """

    repeats = True

    class Config(core.Config):
        """The tower, what it sees and the head.

        Attributes:
            image: Image tower, which reads frame by frame.
            augmentation: One draw a clip.
            guard: Drawn anew for each frame.
            frames: How many are shuffled; frames! / 2 classes.
            stride: Decoded frames from one to the next.
            hidden: Width of the hidden layers of what compares and of the head.
            compared: Dimensions of what is made of a pair.
            shuffles: Orders that each clip is shown in at once: the tower's work is the same
                for all of them.
        """

        image: Annotated[core.Config, TOWERS] = Resnet.Config()
        augmentation: Annotated[core.Config, AUGMENTATIONS] = CropColour.Config()
        guard: Annotated[core.Config, AUGMENTATIONS] = Nothing.Config()
        frames: int = Field(default=4, ge=3, le=6)
        stride: int = Field(default=2, ge=1)
        hidden: int = 256
        compared: int = 32
        shuffles: int = Field(default=1, ge=1, le=720)

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        clip = ClipView(
            augmentation=config.augmentation,
            each_frame=config.guard,
            ordered=True,
            frames=config.frames,
            strides=(config.stride,),
        )
        clip.check(surroundings.frames)
        needed = clip.needed(surroundings.frames)
        self.views = {"clip": clip, "long": LongEnoughView(frames=needed)}
        self.tower = TOWERS.build(config.image, replace(surroundings, size=surroundings.frame_size))
        self.orders: Tensor
        self.register_buffer("orders", orders(config.frames), persistent=False)
        classes = len(self.orders) // 2
        if config.shuffles > len(self.orders):
            known = len(self.orders)
            raise ConfigError(f"objective.shuffles: {config.frames} frames have {known} orders")
        self.shuffles = config.shuffles
        self.pairs: Tensor
        pairs = torch.triu_indices(config.frames, config.frames, 1)
        self.register_buffer("pairs", pairs, persistent=False)
        self.comparer = row_mlp(2 * self.tower.width, config.hidden, config.compared)
        self.head = row_mlp(self.pairs.shape[1] * config.compared, config.hidden, classes)
        self.chance = 1 / classes

    def encode(self, batch: Batch) -> Rows:
        """Logits of frames that are shuffled by the keys' draws. [B, shuffles, classes]."""
        clip = batch.views["clip"]
        features = self.tower(clip.flatten(0, 1)).view(*clip.shape[:2], -1)
        # What all frames share tells nothing of their order, and is most of a feature.
        changes = features - features.mean(1, keepdim=True)
        shown = self.orders[self._shuffles(batch.keys)]
        return {"logits": wide(self.head(self._compared(changes, shown[..., self.pairs])))}

    def compare(self, rows: Rows, batch: Batch) -> LossOutput:
        """Classify the orders."""
        which = self._shuffles(batch.keys) // 2
        return class_loss(rows["logits"], which, batch.views["long"])

    def _shuffles(self, keys: Tensor) -> Tensor:
        """Numbers of the orders of each clip, the first by its key's draw. [B] -> [B, S]."""
        first = integers(keys, _ORDER, len(self.orders))
        apart = len(self.orders) // self.shuffles
        others = apart * torch.arange(self.shuffles, device=keys.device)
        return (first[:, None] + others) % len(self.orders)

    def _compared(self, changes: Tensor, pairs: Tensor) -> Tensor:
        """Compare frames as pairs are shown; each pair of a clip once, however often it is.

        Args:
            changes: Features. [B, T, D]
            pairs: Numbers of the first and the second frames. [B, S, 2, P]

        Returns:
            [B, S, P * C]
        """
        frames = changes.shape[1]
        first = changes[:, :, None].expand(-1, -1, frames, -1)
        both = torch.cat([first, first.transpose(1, 2)], 3).flatten(1, 2)
        compared: Tensor = self.comparer(both)
        wanted = (pairs[:, :, 0] * frames + pairs[:, :, 1]).flatten(1)
        rows = torch.arange(len(wanted), device=wanted.device)[:, None]
        return compared[rows, wanted].view(*pairs.shape[:2], -1)

    def encoders(self) -> Mapping[str, nn.Module]:
        """The tower, of single frames."""
        return {"image": self.tower}


def orders(frames: int) -> Tensor:
    """All orders of some frames, each followed by its reverse. [frames!, frames] int64."""
    forward = [o for o in itertools.permutations(range(frames)) if o[0] < o[-1]]
    return torch.tensor([order for o in forward for order in (o, o[::-1])])
