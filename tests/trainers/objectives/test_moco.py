from __future__ import annotations

from dataclasses import replace

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
from trainers.losses.query_key import info_nce


@pytest.mark.parametrize("copies", [1, 2])
def test_the_loss_contrasts_both_views_predictions_with_the_others_keys(copies: int) -> None:
    objective = small("moco")
    batch = double_batch(objective)
    batch = replace(batch, samples=batch.samples // copies)
    query_a, query_b = objective.predictor(objective.student(both(batch))).split(8)
    key_a, key_b = objective.teacher.module(both(batch)).split(8)
    pairs = (query_a, key_b), (query_b, key_a)
    contrasts = sum(info_nce(*pair, 0.2, batch.samples)[0] for pair in pairs)
    torch.testing.assert_close(objective(batch).loss, 2 * 0.2 * contrasts)


def test_keys_get_no_gradient() -> None:
    objective = small("moco")
    objective(double_batch(objective)).loss.backward()
    assert all(parameter.grad is None for parameter in objective.teacher.parameters())


def test_swapping_the_views_changes_nothing() -> None:
    objective = small("moco")
    batch = double_batch(objective)
    swapped = Batch(batch.samples, batch.keys, {"a": batch.views["b"], "b": batch.views["a"]})
    torch.testing.assert_close(objective(batch).loss, objective(swapped).loss)


def test_the_teacher_follows_and_stands_at_the_end() -> None:
    objective = small("moco")
    teacher, student = objective.teacher.module[1][1].weight, objective.student[1][1].weight
    expected = teacher + (1 - 0.995) * (student - teacher)
    objective.after_step(0.5)
    torch.testing.assert_close(teacher, expected, rtol=1e-12, atol=1e-12)
    objective.after_step(1.0)
    torch.testing.assert_close(teacher, expected, rtol=1e-12, atol=1e-12)


def test_the_two_views_draw_different_numbers() -> None:
    views = small("moco").views
    assert views["a"].stream != views["b"].stream


def test_two_workers_equal_one() -> None:
    assert_two_equal_one("moco")


def test_every_gradient_is_more_than_rounding_errors() -> None:
    assert_every_gradient_counts("moco")
