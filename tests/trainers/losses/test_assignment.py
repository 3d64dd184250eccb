"""Two workers are in ``test_swav.py``, against one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainers.losses.workers import as_workers
from trainers.losses import assignment
from trainers.losses.assignment import sinkhorn, swapped_prediction


def naive_sinkhorn(scores: np.ndarray, epsilon: float, iterations: int) -> np.ndarray:
    q = np.exp(scores / epsilon)
    for _ in range(iterations):
        for k in range(q.shape[1]):
            q[:, k] /= q[:, k].sum() * q.shape[1]
        for n in range(q.shape[0]):
            q[n] /= q[n].sum() * q.shape[0]
    return q * q.shape[0]


def naive_swapped(a: np.ndarray, b: np.ndarray, t: float, epsilon: float) -> float:
    total = 0.0
    for scores, other in ((a, b), (b, a)):
        codes = naive_sinkhorn(other, epsilon, 3)
        for row, code in zip(scores, codes, strict=True):
            norm = sum(math.exp(score / t) for score in row)
            total -= sum(
                q * math.log(math.exp(s / t) / norm) for q, s in zip(code, row, strict=True)
            )
    return total / (2 * len(a))


def draw(count: int, prototypes: int, seed: int, views: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, size=(views, count, prototypes))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(2, 6), st.integers(0, 1000))
def test_both_equal_their_formulas(count: int, prototypes: int, seed: int) -> None:
    a, b = draw(count, prototypes, seed)
    codes = sinkhorn(torch.tensor(a), 0.05, 3)
    np.testing.assert_allclose(codes.numpy(), naive_sinkhorn(a, 0.05, 3), rtol=1e-9, atol=1e-15)
    loss, _ = swapped_prediction(torch.tensor(a), torch.tensor(b), 0.1, 0.05, 3)
    assert loss.item() == pytest.approx(naive_swapped(a, b, 0.1, 0.05), rel=1e-9)


@pytest.mark.parametrize(("count", "prototypes"), [(8, 4), (4, 8), (5, 5), (1, 3)])
def test_rows_sum_to_one_and_prototypes_are_used_equally(count: int, prototypes: int) -> None:
    scores = torch.tensor(draw(count, prototypes, 0, 1)[0])
    codes = sinkhorn(scores, 0.5, 200)
    torch.testing.assert_close(codes.sum(1), torch.ones(count, dtype=torch.float64))
    used = torch.full((prototypes,), count / prototypes, dtype=torch.float64)
    torch.testing.assert_close(codes.sum(0), used)


def test_three_iterations_leave_no_prototype_alone_where_all_rows_prefer_one() -> None:
    scores = torch.tensor(draw(32, 4, 0, 1)[0]) * 0.1
    scores[:, 0] += 1
    assert (sinkhorn(scores, 0.05, 3).sum(0) > 4).all()


def test_a_small_epsilon_does_not_underflow() -> None:
    scores = torch.tensor(draw(6, 3, 0, 1)[0], dtype=torch.float32)
    codes = sinkhorn(scores, 1e-3, 3)
    assert torch.isfinite(codes).all()
    torch.testing.assert_close(codes.sum(1), torch.ones(6))


@pytest.mark.parametrize("counts", [(4, 4), (5, 3), (1, 7), (2, 1, 5)])
def test_workers_exchange_a_row_an_iteration_and_find_what_one_finds(
    counts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = torch.tensor(draw(8, 6, 0, 1)[0])
    parts = scores.split(counts)
    found, shapes = as_workers(
        monkeypatch, assignment, len(counts), lambda rank: sinkhorn(parts[rank], 0.05, 3)
    )
    torch.testing.assert_close(torch.cat(found), sinkhorn(scores, 0.05, 3), rtol=1e-9, atol=1e-15)
    assert shapes == [(1, 6)] * 3 * len(counts)


def test_codes_have_no_gradient() -> None:
    scores = torch.rand(4, 3, requires_grad=True)
    assert not sinkhorn(scores, 0.05, 3).requires_grad


def test_accuracy_counts_predictions_of_the_other_views_prototype() -> None:
    scores = torch.eye(4)
    _, found = swapped_prediction(scores, scores, 0.1, 0.05, 3)
    assert found.item() == 1.0
    _, found = swapped_prediction(scores, scores[[1, 0, 2, 3]], 0.1, 0.05, 3)
    assert found.item() == 0.5
