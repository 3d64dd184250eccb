"""Predict how fast a clip is played."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field
from torch import nn

from pipelines import core
from pipelines.augment import AUGMENTATIONS
from pipelines.augment.crop_colour import CropColour
from pipelines.augment.none import Nothing
from pipelines.core.batch import Batch
from pipelines.views import ClipView, LongEnoughView
from trainers.core.objective import ComparingObjective, LossOutput, Rows, Surroundings
from trainers.losses.classes import class_loss
from trainers.losses.precision import wide
from trainers.models import TOWERS
from trainers.models.frame_transformer import FrameTransformer


class Pace(ComparingObjective):
    """Which rate frames were taken at (Wang et al., 2020, arXiv:2008.05861).

    As in SpeedNet (Benaim et al., 2020, arXiv:2004.06130) all rates give equally many
    frames, here cut from the same decoded clip. Films too short for the highest are left out.
    """

    repeats = True

    class Config(core.Config):
        """The tower and what it sees.

        Attributes:
            video: Video tower.
            augmentation: One draw a clip.
            guard: Drawn anew for each frame.
            frames: Of a clip.
            rates: Of how many decoded frames one is taken; these are told apart.
        """

        video: Annotated[core.Config, TOWERS] = FrameTransformer.Config()
        augmentation: Annotated[core.Config, AUGMENTATIONS] = CropColour.Config()
        guard: Annotated[core.Config, AUGMENTATIONS] = Nothing.Config()
        frames: int = Field(default=8, ge=2)
        rates: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(1, 2, 4), min_length=2)

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        if len(set(config.rates)) < len(config.rates):
            raise core.ConfigError("objective.rates: each rate once")
        self._clip = ClipView(
            augmentation=config.augmentation,
            each_frame=config.guard,
            ordered=True,
            frames=config.frames,
            strides=config.rates,
        )
        self._clip.check(surroundings.frames)
        needed = self._clip.needed(surroundings.frames)
        self.views = {"clip": self._clip, "long": LongEnoughView(frames=needed)}
        self.tower = TOWERS.build(config.video, surroundings)
        self.head = nn.Linear(self.tower.width, len(config.rates))
        self.chance = 1 / len(config.rates)

    def encode(self, batch: Batch) -> Rows:
        """Logits of the rates. [B, rates]."""
        return {"logits": wide(self.head(self.tower(batch.views["clip"])))}

    def compare(self, rows: Rows, batch: Batch) -> LossOutput:
        """Classify the rate that the view drew."""
        rates = self._clip.drawn_strides(batch.keys)
        return class_loss(rows["logits"], rates, batch.views["long"])

    def encoders(self) -> Mapping[str, nn.Module]:
        """The tower."""
        return {"video": self.tower}
