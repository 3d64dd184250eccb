"""Contrast with a momentum encoder's keys."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated

from torch import nn

from pipelines import core
from pipelines.augment import AUGMENTATIONS
from pipelines.augment.crop_colour import CropColour
from pipelines.core.batch import Batch
from pipelines.views import two_views
from trainers.core.objective import ComparingObjective, LossOutput, Rows, Surroundings
from trainers.heads import mlp
from trainers.losses.query_key import info_nce
from trainers.models import TOWERS
from trainers.models.convnext import ConvNext
from trainers.momentum import Teacher, rising
from trainers.pairs import both, encode_pair


class Moco(ComparingObjective):
    """Find a view's key, made by a momentum encoder, among the global batch's (arXiv:2104.02057).

    The third version: no queue, a predictor, both directions, and a loss scaled by
    twice the temperature.
    """

    class Config(core.Config):
        """The tower, the augmentation of both views, heads and momentum.

        Attributes:
            image: Image tower.
            augmentation: Applied twice, with independent numbers.
            hidden: Width of the heads' hidden layers.
            projection: Dimensions of the projections.
            temperature: Of the loss.
            momentum: Of the teacher at the beginning; it rises to 1.
        """

        image: Annotated[core.Config, TOWERS] = ConvNext.Config()
        augmentation: Annotated[core.Config, AUGMENTATIONS] = CropColour.Config()
        hidden: int = 512
        projection: int = 128
        temperature: float = 0.2
        momentum: float = 0.99

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        self.views = two_views(config.augmentation)
        tower = TOWERS.build(config.image, surroundings)
        self.student = nn.Sequential(
            tower, mlp(tower.width, config.hidden, config.projection, layers=3)
        )
        self.predictor = mlp(config.projection, config.hidden, config.projection)
        self.teacher = Teacher(self.student)
        self._temperature, self._momentum = config.temperature, config.momentum

    def encode(self, batch: Batch) -> Rows:
        """Features of both views."""
        return encode_pair(self.student[0], batch)

    def targets(self, batch: Batch) -> Rows:
        """The teacher's features of both views."""
        return encode_pair(partial(self.teacher, member=0), batch, "teacher_")

    def compare(self, rows: Rows, batch: Batch) -> LossOutput:
        """Ask for each view's key with the other view."""
        queries = self.predictor(self.student[1](both(rows))).chunk(2)
        keys = self.teacher(both(rows, "teacher_"), 1).chunk(2)
        one, found_one = info_nce(queries[0], keys[1], self._temperature, batch.samples)
        two, found_two = info_nce(queries[1], keys[0], self._temperature, batch.samples)
        loss = 2 * self._temperature * (one + two)
        return LossOutput(loss, {"accuracy": (found_one + found_two) / 2})

    def after_step(self, progress: float) -> None:
        """Let the teacher follow."""
        self.teacher.update(self.student, rising(self._momentum, progress))

    def encoders(self) -> Mapping[str, nn.Module]:
        """The tower; heads and teacher are thrown away."""
        return {"image": self.student[0]}
