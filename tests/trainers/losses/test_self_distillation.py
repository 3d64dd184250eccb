"""Two workers are in ``test_dinov2.py``, against one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.losses.self_distillation import (
    batch_centre,
    centred,
    class_loss,
    entropy,
    koleo,
    patch_loss,
    update_centre,
)


def shares(random: np.random.Generator, *shape: int) -> np.ndarray:
    raw: np.ndarray = random.uniform(0.01, 1, shape)
    return raw / raw.sum(-1, keepdims=True)


def naive_cross_entropy(scores: np.ndarray, target: np.ndarray, temperature: float) -> float:
    norm = sum(math.exp(score / temperature) for score in scores)
    return -sum(
        q * math.log(math.exp(score / temperature) / norm)
        for q, score in zip(target, scores, strict=True)
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 5), st.integers(1, 6), st.integers(2, 7), st.integers(0, 1000))
def test_the_class_loss_is_that_of_all_pairs_of_different_views(
    views: int, count: int, prototypes: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    scores, targets = (
        random.normal(size=(views, count, prototypes)),
        shares(random, 2, count, prototypes),
    )
    terms = [
        naive_cross_entropy(scores[view, sample], targets[teacher, sample], 0.3)
        for teacher in range(2)
        for view in range(views)
        for sample in range(count)
        if view != teacher
    ]
    assert len(terms) == 2 * (views - 1) * count
    found = class_loss(torch.tensor(scores), torch.tensor(targets), 0.3).item()
    assert found == pytest.approx(sum(terms) / len(terms), rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(2, 7), st.integers(0, 1000))
def test_the_patch_loss_is_the_mean_over_masked_patches(
    count: int, patches: int, prototypes: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    scores = random.normal(size=(count, patches, prototypes))
    targets = shares(random, count, patches, prototypes)
    samples = []
    for one, other in zip(scores, targets, strict=True):
        terms = [naive_cross_entropy(s, q, 0.2) for s, q in zip(one, other, strict=True)]
        samples.append(sum(terms) / patches)
    found = patch_loss(torch.tensor(scores), torch.tensor(targets), 0.2).item()
    assert found == pytest.approx(sum(samples) / count, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 9), st.integers(2, 5), st.integers(0, 1000))
def test_koleo_equals_brute_force(count: int, dimensions: int, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(count, dimensions))
    unit = [row / math.sqrt(sum(x * x for x in row)) for row in rows]
    logs = []
    for i in range(count):
        distances = [
            math.sqrt(sum((a - b) ** 2 for a, b in zip(unit[i], unit[j], strict=True)))
            for j in range(count)
            if j != i
        ]
        logs.append(math.log(min(distances) + 1e-8))
    assert koleo(torch.tensor(rows)).item() == pytest.approx(-sum(logs) / count, rel=1e-9)


def test_koleos_gradient_is_that_of_differences() -> None:
    rows = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(koleo, [rows])


def test_koleo_pushes_neighbours_apart() -> None:
    rows = torch.nn.Parameter(torch.tensor([[1.0, 0.1], [1.0, -0.1], [1.0, 0.0]]))
    before = koleo(rows).item()
    optimizer = torch.optim.SGD([rows], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        koleo(rows).backward()
        optimizer.step()
    assert koleo(rows).item() < before - 1


@pytest.mark.parametrize("count", [1, 3])
def test_koleo_of_equal_rows_is_finite(count: int) -> None:
    rows = torch.ones(count, 4, requires_grad=True)
    loss = koleo(rows)
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(1e-8), rel=1e-3)
    assert torch.isfinite(rows.grad).all()


def test_centred_targets_equal_their_formula() -> None:
    random = np.random.default_rng(0)
    scores, centre = random.normal(size=(4, 5)), random.normal(size=5)
    temperature = torch.tensor([0.3], dtype=torch.float64)
    found = centred(torch.tensor(scores), torch.tensor(centre), temperature)
    for row, shares_of_row in zip(scores, found.tolist(), strict=True):
        powers = [math.exp((s - c) / 0.3) for s, c in zip(row, centre, strict=True)]
        assert shares_of_row == pytest.approx([p / sum(powers) for p in powers], rel=1e-9)


def test_the_centre_is_a_moving_average_of_the_batches_means() -> None:
    random = np.random.default_rng(0)
    centre, expected = torch.zeros(3, dtype=torch.float64), [0.0] * 3
    for _ in range(5):
        scores = random.normal(size=(4, 3))
        update_centre(centre, batch_centre(torch.tensor(scores)), 0.9)
        for k in range(3):
            expected[k] = 0.9 * expected[k] + 0.1 * sum(row[k] for row in scores) / 4
    assert centre.tolist() == pytest.approx(expected, rel=1e-12)


def test_entropy_runs_from_0_to_log_k_and_bounds_the_cross_entropy() -> None:
    assert entropy(torch.eye(4)).item() == 0
    assert entropy(torch.full((3, 4), 0.25)).item() == pytest.approx(math.log(4))
    targets = torch.tensor(shares(np.random.default_rng(0), 3, 2, 5))
    exact = patch_loss(targets.log() * 0.1, targets, 0.1)
    torch.testing.assert_close(exact, entropy(targets))


def test_targets_have_no_gradient() -> None:
    scores = torch.rand(4, 3, requires_grad=True)
    assert not centred(scores, torch.zeros(3), torch.ones(1)).requires_grad
    assert not batch_centre(scores).requires_grad
    assert not entropy(scores.softmax(1)).requires_grad


@pytest.mark.parametrize("name", ["class", "patch", "koleo"])
def test_autocast_changes_nothing(name: str) -> None:
    random = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 6, 8, generator=random)
    targets = torch.randn(3, 6, 8, generator=random).softmax(2)

    def loss() -> torch.Tensor:
        if name == "koleo":
            return koleo(scores[0])
        if name == "patch":
            return patch_loss(scores, targets, 0.1)
        return class_loss(scores, targets[:2], 0.1)

    expected = loss()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(), expected)
