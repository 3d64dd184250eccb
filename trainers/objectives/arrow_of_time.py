"""Predict whether a clip runs forwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from pipelines import core
from pipelines.augment import AUGMENTATIONS
from pipelines.augment.crop_colour import CropColour
from pipelines.augment.quality import Quality
from pipelines.core.batch import Batch
from pipelines.core.randomness import integers
from pipelines.views import ClipView, LongEnoughView
from trainers.core.objective import ComparingObjective, LossOutput, Rows, Surroundings
from trainers.losses.classes import class_loss
from trainers.losses.precision import wide
from trainers.models import TOWERS
from trainers.models.frame_transformer import FrameTransformer

_STREAM = 1


class ArrowOfTime(ComparingObjective):
    """Forwards or backwards (Wei et al., 2018, Learning and Using the Arrow of Time).

    Films too short for a clip are left out.
    """

    repeats = True

    class Config(core.Config):
        """The tower and what it sees.

        Attributes:
            video: Video tower.
            augmentation: One draw a clip.
            guard: Drawn anew for each frame: codecs make frames worse with the distance from
                the last whole one, which tells the direction without any motion.
            frames: Of a clip.
            stride: Decoded frames from one to the next.
        """

        video: Annotated[core.Config, TOWERS] = FrameTransformer.Config()
        augmentation: Annotated[core.Config, AUGMENTATIONS] = CropColour.Config()
        guard: Annotated[core.Config, AUGMENTATIONS] = Quality.Config()
        frames: int = Field(default=8, ge=2)
        stride: int = Field(default=1, ge=1)

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
        self.tower = TOWERS.build(config.video, surroundings)
        self.head = nn.Linear(self.tower.width, 2)
        self.chance = 1 / 2

    def encode(self, batch: Batch) -> Rows:
        """Turn clips around by their keys' draws and look at them. [B, 2]."""
        turned = turn(batch.views["clip"], self._backwards(batch).bool())
        return {"logits": wide(self.head(self.tower(turned)))}

    def compare(self, rows: Rows, batch: Batch) -> LossOutput:
        """Tell which were turned."""
        return class_loss(rows["logits"], self._backwards(batch), batch.views["long"])

    def _backwards(self, batch: Batch) -> Tensor:
        """1 for clips that are turned around, 0 for others. [B]."""
        return integers(batch.keys, _STREAM, 2)

    def encoders(self) -> Mapping[str, nn.Module]:
        """The tower."""
        return {"video": self.tower}


def turn(clips: Tensor, backwards: Tensor) -> Tensor:
    """Reverse the frames of some clips.

    Args:
        clips: [B, T, ...]
        backwards: Of which. [B] bool
    """
    chosen = backwards.view(-1, *[1] * (clips.dim() - 1))
    return torch.where(chosen, clips.flip(1), clips)
