"""Two workers are in the tests of the objectives, against one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.losses.redundancy import barlow_twins, cross_correlation, vicreg

# Columns of a Hadamard matrix without its constant one: of mean 0, and uncorrelated.
DECORRELATED = torch.tensor(
    [[1.0, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1]], dtype=torch.float64
)

views = given(st.integers(3, 9), st.integers(1, 6), st.integers(0, 1000))


def draw(count: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    a, noise = np.random.default_rng(seed).normal(size=(2, count, width))
    return a, a + 0.5 * noise


def naive_barlow_twins(a: np.ndarray, b: np.ndarray, weight: float) -> float:
    loss = 0.0
    for i in range(a.shape[1]):
        for j in range(b.shape[1]):
            x, y = a[:, i] - a[:, i].mean(), b[:, j] - b[:, j].mean()
            scale = np.sqrt((np.mean(x**2) + 1e-5) * (np.mean(y**2) + 1e-5))
            c = np.mean(x * y) / scale
            loss += (1 - c) ** 2 if i == j else weight * c**2
    return float(loss)


def naive_vicreg(a: np.ndarray, b: np.ndarray, weights: tuple[float, float, float]) -> float:
    count, width = a.shape
    invariance = sum((a[n, d] - b[n, d]) ** 2 for n in range(count) for d in range(width))
    variance = covariance = 0.0
    for z in (a, b):
        c = np.cov(z, rowvar=False).reshape(width, width)
        for i in range(width):
            variance += max(0.0, 1 - np.sqrt(c[i, i] + 1e-4)) / width
            covariance += sum(c[i, j] ** 2 for j in range(width) if j != i) / width
    terms = invariance / (count * width), variance, covariance
    return float(sum(w * term for w, term in zip(weights, terms, strict=True)))


@settings(max_examples=20, deadline=None)
@views
def test_barlow_twins_equals_its_formula(count: int, width: int, seed: int) -> None:
    a, b = draw(count, width, seed)
    loss, invariance, redundancy = barlow_twins(torch.tensor(a), torch.tensor(b), 0.1)
    assert loss.item() == pytest.approx(naive_barlow_twins(a, b, 0.1), rel=1e-9)
    assert loss.item() == pytest.approx((invariance + 0.1 * redundancy).item(), rel=1e-12)


@settings(max_examples=20, deadline=None)
@views
def test_vicreg_equals_its_formula(count: int, width: int, seed: int) -> None:
    a, b = draw(count, width, seed)
    loss, _ = vicreg(torch.tensor(a), torch.tensor(b), (25.0, 24.0, 1.5))
    assert loss.item() == pytest.approx(naive_vicreg(a, b, (25.0, 24.0, 1.5)), rel=1e-9)


def test_equal_decorrelated_views_cost_nothing() -> None:
    loss, _, _ = barlow_twins(DECORRELATED, DECORRELATED, 1.0)
    assert loss.item() == pytest.approx(0.0, abs=1e-9)
    loss, _ = vicreg(DECORRELATED, DECORRELATED, (25.0, 25.0, 1.0))
    assert loss.item() == pytest.approx(0.0, abs=1e-9)


def test_scale_and_place_of_projections_do_not_matter_to_barlow_twins() -> None:
    a, b = (torch.tensor(view) for view in draw(8, 4, 0))
    moved = cross_correlation(100 * a + 7, 10 * b - 3, eps=0.0)
    torch.testing.assert_close(moved, cross_correlation(a, b, eps=0.0))


def test_repeated_dimensions_cost_their_redundancy() -> None:
    twice = DECORRELATED[:, [0, 0]]
    _, invariance, redundancy = barlow_twins(twice, twice, 1.0)
    assert invariance.item() == pytest.approx(0.0, abs=1e-9)
    assert redundancy.item() == pytest.approx(2.0, rel=1e-4)
    _, (_, _, covariance) = vicreg(twice, twice, (1.0, 1.0, 1.0))
    assert covariance.item() == pytest.approx(2 * (4 / 3) ** 2)


def test_a_collapse_costs_the_whole_variance_and_its_gradient_is_finite() -> None:
    collapsed = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    loss, (invariance, variance, covariance) = vicreg(collapsed, collapsed, (25.0, 25.0, 1.0))
    assert (invariance.item(), covariance.item()) == (0.0, 0.0)
    assert variance.item() == pytest.approx(2 * (1 - 0.01))
    loss.backward()
    assert torch.isfinite(collapsed.grad).all()  # type: ignore[arg-type]
    loss, _, _ = barlow_twins(collapsed, collapsed, 1.0)
    assert loss.item() == pytest.approx(3.0)


def test_statistics_are_computed_in_single_precision_at_least() -> None:
    a, b = (torch.tensor(view, dtype=torch.bfloat16) for view in draw(8, 4, 0))
    loss, _, _ = barlow_twins(a, b, 0.1)
    exact, _, _ = barlow_twins(a.double(), b.double(), 0.1)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)
