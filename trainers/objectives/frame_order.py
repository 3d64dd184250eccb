"""Predict in which order frames of a clip are shown."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pipelines import core
from pipelines.augment import AUGMENTATIONS
from pipelines.augment.crop_colour import CropColour
from pipelines.augment.none import Nothing
from pipelines.core.batch import Batch
from pipelines.core.randomness import integers
from pipelines.views import ClipView
from trainers.core.objective import LossOutput, Objective, Surroundings
from trainers.heads import row_mlp
from trainers.models import TOWERS
from trainers.models.resnet import Resnet

_ORDER = 1


class FrameOrder(Objective):
    """How frames were shuffled (Lee et al., 2017, arXiv:1708.01246).

    As there, frames are compared pair by pair, and the order is told from all pairs. An
    order and its reverse are one class, as in Shuffle and Learn (Misra et al., 2016,
    arXiv:1603.08561): much that moves looks alike backwards.
    """

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
        """

        image: Annotated[core.Config, TOWERS] = Resnet.Config()
        augmentation: Annotated[core.Config, AUGMENTATIONS] = CropColour.Config()
        guard: Annotated[core.Config, AUGMENTATIONS] = Nothing.Config()
        frames: int = Field(default=4, ge=3, le=6)
        stride: int = Field(default=2, ge=1)
        hidden: int = 256
        compared: int = 32

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        clip = ClipView(
            augmentation=config.augmentation,
            each_frame=config.guard,
            frames=config.frames,
            strides=(config.stride,),
        )
        clip.check(surroundings.frames)
        self.views = {"clip": clip}
        self.tower = TOWERS.build(config.image, replace(surroundings, size=surroundings.frame_size))
        self.orders: Tensor
        self.register_buffer("orders", orders(config.frames), persistent=False)
        classes = len(self.orders) // 2
        pairs = list(itertools.combinations(range(config.frames), 2))
        self.pairs: Tensor
        self.register_buffer("pairs", torch.tensor(pairs), persistent=False)
        self.compare = row_mlp(2 * self.tower.width, config.hidden, config.compared)
        self.head = row_mlp(len(pairs) * config.compared, config.hidden, classes)
        self.chance = 1 / classes

    def forward(self, batch: Batch) -> LossOutput:
        """Shuffle frames by the keys' draws and classify the order."""
        drawn = integers(batch.keys, _ORDER, len(self.orders))
        rows = torch.arange(len(batch), device=drawn.device)[:, None]
        shown = batch.views["clip"][rows, self.orders[drawn]]
        features = self.tower(shown.flatten(0, 1)).view(*shown.shape[:2], -1)
        # What all frames share tells nothing of their order, and is most of a feature.
        changes = features - features.mean(1, keepdim=True)
        compared = self.compare(changes[:, self.pairs].flatten(2))
        logits, which = self.head(compared.flatten(1)), drawn // 2
        right = (logits.detach().argmax(1) == which).float().mean()
        return LossOutput(F.cross_entropy(logits, which), {"accuracy": right})

    def encoders(self) -> Mapping[str, nn.Module]:
        """The tower, of single frames."""
        return {"image": self.tower}


def orders(frames: int) -> Tensor:
    """All orders of some frames, each followed by its reverse. [frames!, frames] int64."""
    forward = [o for o in itertools.permutations(range(frames)) if o[0] < o[-1]]
    return torch.tensor([order for o in forward for order in (o, o[::-1])])
