"""Contrast of clips that were cut from the same video."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field
from torch import nn

from pipelines import core
from pipelines.augment import AUGMENTATIONS
from pipelines.augment.crop_colour import CropColour
from pipelines.core.batch import Batch
from pipelines.views import ClipView
from trainers.core.objective import ComparingObjective, LossOutput, Rows, Surroundings
from trainers.heads import row_mlp
from trainers.losses.contrastive import nt_xent
from trainers.models import TOWERS
from trainers.models.frame_transformer import FrameTransformer


class ClipContrast(ComparingObjective):
    """Two clips of a video attract, those of others repel (CVRL, Qian et al., 2021).

    arXiv:2008.03800. Both begin anywhere in what is decoded, so that the time between them
    has the falling probability that the paper found best.
    """

    repeats = True

    class Config(core.Config):
        """The tower, what it sees, and the projection head.

        Attributes:
            video: Video tower.
            augmentation: One draw for all frames of a clip, another for the other clip.
            frames: Of a clip.
            stride: Decoded frames from one to the next.
            hidden: Width of the head's hidden layer.
            projection: Dimensions of the projections.
            temperature: Of the loss.
        """

        video: Annotated[core.Config, TOWERS] = FrameTransformer.Config()
        augmentation: Annotated[core.Config, AUGMENTATIONS] = CropColour.Config()
        frames: int = Field(default=8, ge=1)
        stride: int = Field(default=2, ge=1)
        hidden: int = 512
        projection: int = 128
        temperature: float = 0.1

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        self.views = {}
        for stream, name in enumerate(("a", "b")):
            clip = ClipView(
                augmentation=config.augmentation,
                frames=config.frames,
                strides=(config.stride,),
                stream=stream,
            )
            clip.check(surroundings.frames)
            self.views[name] = clip
        self.tower = TOWERS.build(config.video, surroundings)
        self.head = row_mlp(self.tower.width, config.hidden, config.projection)
        self._temperature = config.temperature

    def encode(self, batch: Batch) -> Rows:
        """Projections of both clips."""
        return {name: self.head(self.tower(batch.views[name])) for name in ("a", "b")}

    def compare(self, rows: Rows, batch: Batch) -> LossOutput:
        """Compare every clip with all of other videos of the global batch."""
        loss, found, chance = nt_xent(rows["a"], rows["b"], self._temperature, batch.samples)
        metrics = {"accuracy": found, "chance": chance}
        return LossOutput(loss, metrics | {"answers": found.new_full((), 2.0)})

    def encoders(self) -> Mapping[str, nn.Module]:
        """The tower; the head is thrown away."""
        return {"video": self.tower}
