"""Predict a momentum teacher's projection, without negatives."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn

from pipelines import core
from pipelines.augment import AUGMENTATIONS
from pipelines.augment.crop_colour import CropColour
from pipelines.core.batch import Batch
from pipelines.views import two_views
from trainers.core.objective import ComparingObjective, LossOutput, Rows, Surroundings
from trainers.heads import mlp
from trainers.losses.gather import gather
from trainers.losses.precision import wide
from trainers.models import TOWERS
from trainers.models.convnext import ConvNext
from trainers.momentum import Teacher, rising
from trainers.pairs import both, encode_pair


class Byol(ComparingObjective):
    """Predict the other view's projection by a slow copy of oneself (arXiv:2006.07733).

    A low loss may also be a collapse: the metric ``spread`` tells.
    """

    class Config(core.Config):
        """The tower, the augmentation of both views, heads and momentum.

        Attributes:
            image: Image tower.
            augmentation: Applied twice, with independent numbers.
            hidden: Width of the heads' hidden layers.
            projection: Dimensions of the projections.
            momentum: Of the teacher at the beginning; it rises to 1.
        """

        image: Annotated[core.Config, TOWERS] = ConvNext.Config()
        augmentation: Annotated[core.Config, AUGMENTATIONS] = CropColour.Config()
        hidden: int = 512
        projection: int = 128
        momentum: float = 0.99

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        self.views = two_views(config.augmentation)
        tower = TOWERS.build(config.image, surroundings)
        self.student = nn.Sequential(tower, mlp(tower.width, config.hidden, config.projection))
        self.predictor = mlp(config.projection, config.hidden, config.projection)
        self.teacher = Teacher(self.student)
        self._momentum = config.momentum

    def encode(self, batch: Batch) -> Rows:
        """Features of both views."""
        return encode_pair(self.student[0], batch)

    def targets(self, batch: Batch) -> Rows:
        """The teacher's features of both views."""
        return encode_pair(partial(self.teacher, member=0), batch, "teacher_")

    def compare(self, rows: Rows, batch: Batch) -> LossOutput:
        """Predict each view's target from the other view."""
        predictions = self.predictor(self.student[1](both(rows)))
        targets = self.teacher(both(rows, "teacher_"), 1)
        swapped = targets.roll(len(batch), 0)
        cosine = F.cosine_similarity(wide(predictions), wide(swapped), dim=1).mean()
        # Squared distances of unit vectors, summed over both directions as in the paper.
        loss = 2 * (2 - 2 * cosine)
        return LossOutput(loss, {"cosine": cosine.detach(), "spread": spread(targets)})

    def after_step(self, progress: float) -> None:
        """Let the teacher follow."""
        self.teacher.update(self.student, rising(self._momentum, progress))

    def encoders(self) -> Mapping[str, nn.Module]:
        """The tower; heads and teacher are thrown away."""
        return {"image": self.student[0]}


def spread(rows: Tensor) -> Tensor:
    """Tell a good fit from a collapse, which a low loss does not.

    Args:
        rows: Projections of any length. [B, D]

    Returns:
        Standard deviation of directions over the global batch: 0 where all rows
        point the same way, 1 where they are spread evenly. []
    """
    directions = gather(F.normalize(wide(rows.detach()), dim=1))
    return directions.var(0, correction=0).sum().sqrt()
