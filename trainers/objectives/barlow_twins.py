"""Views that agree in dimensions that do not."""

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
from trainers.heads import mlp
from trainers.losses.redundancy import barlow_twins
from trainers.models import TOWERS
from trainers.models.convnext import ConvNext
from trainers.pairs import both, encode_pair


class BarlowTwins(ComparingObjective):
    """Two views' dimensions correlate each with itself only (arXiv:2103.03230)."""

    class Config(core.Config):
        """The tower, the augmentation of both views, and the projection head.

        Attributes:
            image: Image tower.
            augmentation: Applied twice, with independent numbers.
            hidden: Width of the head's hidden layers.
            projection: Dimensions of the projections; more are better in the paper.
            redundancy: Weight of correlations between dimensions.
        """

        image: Annotated[core.Config, TOWERS] = ConvNext.Config()
        augmentation: Annotated[core.Config, AUGMENTATIONS] = CropColour.Config()
        hidden: int = 512
        projection: int = 512
        redundancy: float = 0.005

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        self.views = two_views(config.augmentation)
        self.tower = TOWERS.build(config.image, surroundings)
        self.head = mlp(self.tower.width, config.hidden, config.projection, layers=3, bias=False)
        self._redundancy = config.redundancy

    def encode(self, batch: Batch) -> Rows:
        """Features of both views."""
        return encode_pair(self.tower, batch)

    def compare(self, rows: Rows, batch: Batch) -> LossOutput:
        """Correlate both views over the global batch."""
        a, b = self.head(both(rows)).chunk(2)
        loss, invariance, redundancy = barlow_twins(a, b, self._redundancy)
        metrics = {"invariance": invariance.detach(), "redundancy": redundancy.detach()}
        return LossOutput(loss, metrics)

    def encoders(self) -> Mapping[str, nn.Module]:
        """The tower; the head is thrown away."""
        return {"image": self.tower}
