from __future__ import annotations

import torch

from pipelines.core.batch import Batch
from tests.trainers.conftest import random_batch
from tests.trainers.two_workers import assert_two_equal_one
from trainers.core.objective import Surroundings
from trainers.losses.contrastive import nt_xent
from trainers.objectives.simclr import Simclr


def test_the_loss_is_that_of_the_projections_of_both_views() -> None:
    objective = Simclr(Simclr.Config(), Surroundings(size=16))
    batch = random_batch(objective, 4, 16)
    a, b = (objective.head(objective.tower(batch.views[name])) for name in "ab")
    expected, _, _ = nt_xent(a, b, Simclr.Config().temperature, batch.samples)
    torch.testing.assert_close(objective(batch).loss, expected)


def test_two_workers_are_one() -> None:
    assert_two_equal_one("simclr")


def test_equal_views_are_found() -> None:
    objective = Simclr(Simclr.Config(), Surroundings(size=16))
    batch = random_batch(objective, 4, 16)
    same = Batch(batch.samples, batch.keys, {"a": batch.views["a"], "b": batch.views["a"]})
    assert objective(same).metrics["accuracy"].item() == 1.0


def test_the_two_views_draw_different_numbers() -> None:
    views = Simclr(Simclr.Config(), Surroundings(size=16)).views
    assert views["a"].stream != views["b"].stream
