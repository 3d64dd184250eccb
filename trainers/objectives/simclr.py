"""Contrastive views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from torch import nn

from pipelines import core
from pipelines.augment import AUGMENTATIONS
from pipelines.augment.crop_colour import CropColour
from pipelines.core.batch import Batch
from pipelines.views import two_views
from trainers.core.objective import ComparingObjective, LossOutput, Rows, Surroundings
from trainers.losses.contrastive import nt_xent
from trainers.models import TOWERS
from trainers.models.convnext import ConvNext


class Simclr(ComparingObjective):
    """Two views of an image attract, all others of the global batch repel (arXiv:2002.05709)."""

    repeats = True

    class Config(core.Config):
        """The tower, the augmentation of both views, and the projection head.

        Attributes:
            image: Image tower.
            augmentation: Applied twice, with independent numbers.
            hidden: Width of the head's hidden layer.
            projection: Dimensions of the projections.
            temperature: Of the loss.
        """

        image: Annotated[core.Config, TOWERS] = ConvNext.Config()
        augmentation: Annotated[core.Config, AUGMENTATIONS] = CropColour.Config()
        hidden: int = 512
        projection: int = 128
        temperature: float = 0.2

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        self.views = two_views(config.augmentation)
        self.tower = TOWERS.build(config.image, surroundings)
        self.head = nn.Sequential(
            nn.Linear(self.tower.width, config.hidden),
            nn.LayerNorm(config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.projection),
        )
        self._temperature = config.temperature

    def encode(self, batch: Batch) -> Rows:
        """Projections of both views."""
        return {name: self.head(self.tower(batch.views[name])) for name in ("a", "b")}

    def compare(self, rows: Rows, batch: Batch) -> LossOutput:
        """Compare every view with all of other samples."""
        loss, found, _ = nt_xent(rows["a"], rows["b"], self._temperature, batch.samples)
        return LossOutput(loss, {"accuracy": found})

    def encoders(self) -> Mapping[str, nn.Module]:
        """The tower; the head is thrown away."""
        return {"image": self.tower}
