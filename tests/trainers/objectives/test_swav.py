from __future__ import annotations

import torch

from tests.trainers.two_workers import (
    assert_every_gradient_counts,
    assert_two_equal_one,
    both,
    double_batch,
    small,
)
from trainers.losses.assignment import sinkhorn, swapped_prediction


def test_the_loss_is_that_of_both_views_cosines_with_the_prototypes() -> None:
    objective = small("swav")
    batch = double_batch(objective)
    embeddings = objective.head(objective.tower(both(batch))).split(8)
    directions = objective.prototypes.weight
    a, b = (torch.cosine_similarity(e[:, None], directions[None], dim=2) for e in embeddings)
    assert a.shape == (8, 256)
    expected, _ = swapped_prediction(a, b, 0.1, 0.05, 3)
    torch.testing.assert_close(objective(batch).loss, expected)


def test_gradients_are_those_of_fixed_assignments() -> None:
    objective = small("swav")
    batch = double_batch(objective)
    objective(batch).loss.backward()
    found = objective.prototypes.weight.grad.clone()
    objective.zero_grad()
    a, b = objective.prototypes(objective.head(objective.tower(both(batch)))).split(8)
    codes = [sinkhorn(scores.detach(), 0.05, 3) for scores in (a, b)]
    loss = -(codes[1] * (a / 0.1).log_softmax(1) + codes[0] * (b / 0.1).log_softmax(1)).sum(1) / 2
    loss.mean().backward()
    torch.testing.assert_close(objective.prototypes.weight.grad, found)


def test_the_two_views_draw_different_numbers() -> None:
    views = small("swav").views
    assert views["a"].stream != views["b"].stream


def test_two_workers_equal_one() -> None:
    assert_two_equal_one("swav")


def test_every_gradient_is_more_than_rounding_errors() -> None:
    assert_every_gradient_counts("swav")
