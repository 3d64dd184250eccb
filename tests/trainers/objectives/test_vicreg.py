from __future__ import annotations

import torch

from tests.trainers.two_workers import (
    assert_every_gradient_counts,
    assert_two_equal_one,
    both,
    double_batch,
    small,
)
from trainers.losses.redundancy import vicreg


def test_the_loss_is_that_of_the_projections_of_both_views() -> None:
    objective = small("vicreg")
    batch = double_batch(objective)
    a, b = objective.head(objective.tower(both(batch))).split(8)
    torch.testing.assert_close(objective(batch).loss, vicreg(a, b, (25.0, 25.0, 1.0))[0])


def test_metrics_are_the_terms_of_the_loss() -> None:
    objective = small("vicreg")
    output = objective(double_batch(objective))
    metrics = output.metrics
    expected = 25 * (metrics["invariance"] + metrics["variance"]) + metrics["covariance"]
    torch.testing.assert_close(output.loss.detach(), expected)


def test_the_two_views_draw_different_numbers() -> None:
    views = small("vicreg").views
    assert views["a"].stream != views["b"].stream


def test_two_workers_equal_one() -> None:
    assert_two_equal_one("vicreg")


def test_every_gradient_is_more_than_rounding_errors() -> None:
    assert_every_gradient_counts("vicreg")
