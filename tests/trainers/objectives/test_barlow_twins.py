from __future__ import annotations

import torch

from tests.trainers.two_workers import (
    assert_every_gradient_counts,
    assert_two_equal_one,
    both,
    double_batch,
    small,
)
from trainers.losses.redundancy import barlow_twins


def test_the_loss_is_that_of_the_projections_of_both_views() -> None:
    objective = small("barlow_twins")
    batch = double_batch(objective)
    a, b = objective.head(objective.tower(both(batch))).split(8)
    torch.testing.assert_close(objective(batch).loss, barlow_twins(a, b, 0.005)[0])


def test_metrics_are_the_terms_of_the_loss() -> None:
    objective = small("barlow_twins")
    output = objective(double_batch(objective))
    metrics = output.metrics
    expected = metrics["invariance"] + 0.005 * metrics["redundancy"]
    torch.testing.assert_close(output.loss.detach(), expected)


def test_the_two_views_draw_different_numbers() -> None:
    views = small("barlow_twins").views
    assert views["a"].stream != views["b"].stream


def test_two_workers_equal_one() -> None:
    assert_two_equal_one("barlow_twins")


def test_every_gradient_is_more_than_rounding_errors() -> None:
    assert_every_gradient_counts("barlow_twins")
