from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.core.batch import Batch
from tests.trainers.two_workers import (
    assert_every_gradient_counts,
    assert_two_equal_one,
    both,
    double_batch,
    small,
)
from trainers.objectives.byol import spread


def unit(x: torch.Tensor) -> np.ndarray:
    rows: np.ndarray = x.detach().numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_loss_is_the_squared_distance_of_unit_vectors_both_ways() -> None:
    objective = small("byol")
    batch = double_batch(objective)
    predictions = unit(objective.predictor(objective.student(both(batch))))
    targets = unit(objective.teacher.module(both(batch)))
    expected = sum(
        float(((predictions[one] - targets[other]) ** 2).sum()) / 8
        for i in range(8)
        for one, other in ((i, i + 8), (i + 8, i))
    )
    assert objective(batch).loss.item() == pytest.approx(expected, rel=1e-9)


def test_targets_get_no_gradient() -> None:
    objective = small("byol")
    objective(double_batch(objective)).loss.backward()
    assert all(parameter.grad is None for parameter in objective.teacher.parameters())


def test_swapping_the_views_changes_nothing() -> None:
    objective = small("byol")
    batch = double_batch(objective)
    swapped = Batch(batch.samples, batch.keys, {"a": batch.views["b"], "b": batch.views["a"]})
    torch.testing.assert_close(objective(batch).loss, objective(swapped).loss)


def test_the_teacher_follows_and_stands_at_the_end() -> None:
    objective = small("byol")
    teacher, student = objective.teacher.module[1][1].weight, objective.student[1][1].weight
    expected = teacher + (1 - 0.995) * (student - teacher)
    objective.after_step(0.5)
    torch.testing.assert_close(teacher, expected, rtol=1e-12, atol=1e-12)
    objective.after_step(1.0)
    torch.testing.assert_close(teacher, expected, rtol=1e-12, atol=1e-12)


def test_spread_is_0_for_a_collapse_and_1_for_opposite_directions() -> None:
    assert spread(torch.tensor([[1.0, 2], [2, 4], [0.5, 1]])).item() == pytest.approx(0, abs=1e-6)
    assert spread(torch.tensor([[1.0, 2], [-2, -4]])).item() == pytest.approx(1)


def test_the_two_views_draw_different_numbers() -> None:
    views = small("byol").views
    assert views["a"].stream != views["b"].stream


def test_two_workers_equal_one() -> None:
    assert_two_equal_one("byol")


def test_every_gradient_is_more_than_rounding_errors() -> None:
    assert_every_gradient_counts("byol")
