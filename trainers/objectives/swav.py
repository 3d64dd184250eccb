"""Swapped assignments to prototypes."""

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
from trainers.heads import Prototypes, mlp
from trainers.losses.assignment import swapped_prediction
from trainers.models import TOWERS
from trainers.models.convnext import ConvNext
from trainers.pairs import both, encode_pair


class Swav(ComparingObjective):
    """Predict from one view which prototypes the other is assigned to (arXiv:2006.09882).

    Two views, without the paper's small crops and without its queue: prototypes
    should not outnumber the global batch.
    """

    class Config(core.Config):
        """The tower, the augmentation of both views, the head and the assignment.

        Attributes:
            image: Image tower.
            augmentation: Applied twice, with independent numbers.
            hidden: Width of the head's hidden layer.
            projection: Dimensions of the projections.
            prototypes: Number of prototypes.
            temperature: Of the prediction.
            epsilon: Smoothness of the assignment.
            iterations: Of Sinkhorn's algorithm.
        """

        image: Annotated[core.Config, TOWERS] = ConvNext.Config()
        augmentation: Annotated[core.Config, AUGMENTATIONS] = CropColour.Config()
        hidden: int = 512
        projection: int = 128
        prototypes: int = 256
        temperature: float = 0.1
        epsilon: float = 0.05
        iterations: int = 3

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        self.views = two_views(config.augmentation)
        self.tower = TOWERS.build(config.image, surroundings)
        self.head = mlp(self.tower.width, config.hidden, config.projection)
        self.prototypes = Prototypes(config.projection, config.prototypes)
        self._settings = config.temperature, config.epsilon, config.iterations

    def encode(self, batch: Batch) -> Rows:
        """Features of both views."""
        return encode_pair(self.tower, batch)

    def compare(self, rows: Rows, batch: Batch) -> LossOutput:
        """Assign both views over the global batch and predict each from the other."""
        a, b = self.prototypes(self.head(both(rows))).chunk(2)
        loss, found = swapped_prediction(a, b, *self._settings)
        return LossOutput(loss, {"accuracy": found})

    def encoders(self) -> Mapping[str, nn.Module]:
        """The tower; head and prototypes are thrown away."""
        return {"image": self.tower}
