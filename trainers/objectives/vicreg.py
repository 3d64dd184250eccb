"""Views that agree, in dimensions that vary and do not repeat one another."""

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
from trainers.losses.redundancy import vicreg
from trainers.models import TOWERS
from trainers.models.convnext import ConvNext
from trainers.pairs import both, encode_pair


class Vicreg(ComparingObjective):
    """Variance, invariance and covariance of two views (arXiv:2105.04906)."""

    class Config(core.Config):
        """The tower, the augmentation of both views, the projection head and the weights.

        Attributes:
            image: Image tower.
            augmentation: Applied twice, with independent numbers.
            hidden: Width of the head's hidden layers.
            projection: Dimensions of the projections. Many more than samples of a global
                batch repeat one another by necessity, and the loss cannot fall far.
            invariance: Weight of the views' difference.
            variance: Weight of deviations below 1.
            covariance: Weight of covariances between dimensions.
        """

        image: Annotated[core.Config, TOWERS] = ConvNext.Config()
        augmentation: Annotated[core.Config, AUGMENTATIONS] = CropColour.Config()
        hidden: int = 512
        projection: int = 128
        invariance: float = 25.0
        variance: float = 25.0
        covariance: float = 1.0

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        self.views = two_views(config.augmentation)
        self.tower = TOWERS.build(config.image, surroundings)
        self.head = mlp(self.tower.width, config.hidden, config.projection, layers=3, bias=False)
        self._weights = config.invariance, config.variance, config.covariance

    def encode(self, batch: Batch) -> Rows:
        """Features of both views."""
        return encode_pair(self.tower, batch)

    def compare(self, rows: Rows, batch: Batch) -> LossOutput:
        """Compare both views and their statistics over the global batch."""
        a, b = self.head(both(rows)).chunk(2)
        loss, terms = vicreg(a, b, self._weights)
        names = "invariance", "variance", "covariance"
        metrics = {name: term.detach() for name, term in zip(names, terms, strict=True)}
        return LossOutput(loss, metrics)

    def encoders(self) -> Mapping[str, nn.Module]:
        """The tower; the head is thrown away."""
        return {"image": self.tower}
