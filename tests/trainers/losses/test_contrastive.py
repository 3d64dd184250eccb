from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainers.losses.workers import as_workers
from trainers.losses import contrastive
from trainers.losses.contrastive import image_text, nt_xent


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def naive_nt_xent(
    a: np.ndarray, b: np.ndarray, t: float, samples: list[int]
) -> tuple[float, float]:
    """The loss, and the share of pairs that a guesser finds."""
    z = unit(np.concatenate([a, b]).astype(np.float64))
    n = len(a)
    losses, chances = [], []
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        rivals = [k for k in range(2 * n) if k == j or samples[k % n] != samples[i % n]]
        others = sum(math.exp(z[i] @ z[k] / t) for k in rivals)
        losses.append(-math.log(math.exp(z[i] @ z[j] / t) / others))
        chances.append(1 / len(rivals))
    return sum(losses) / len(losses), sum(chances) / len(chances)


def naive_image_text(
    x: np.ndarray, y: np.ndarray, scale: float, ids: list[int], samples: list[int]
) -> float:
    x, y = unit(x.astype(np.float64)), unit(y.astype(np.float64))
    total = 0.0
    for rows, columns in ((x, y), (y, x)):
        for i in range(len(rows)):
            norm = sum(math.exp(scale * rows[i] @ c) for c in columns)
            positives = [j for j in range(len(ids)) if ids[j] == ids[i] or samples[j] == samples[i]]
            logs = [-math.log(math.exp(scale * rows[i] @ columns[j]) / norm) for j in positives]
            total += sum(logs) / len(logs)
    return total / (2 * len(x))


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=2, max_size=9),
    st.booleans(),
    st.sampled_from([0.1, 0.5, 1.0]),
    st.integers(0, 1000),
)
def test_nt_xent_equals_its_formula_also_with_samples_that_repeat(
    samples: list[int], unique: bool, temperature: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    a, b = random.normal(size=(2, len(samples), 5))
    numbers = list(range(len(samples))) if unique else samples
    loss, _, chance = nt_xent(torch.tensor(a), torch.tensor(b), temperature, torch.tensor(numbers))
    expected, guessed = naive_nt_xent(a, b, temperature, numbers)
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert chance.item() == pytest.approx(guessed)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=2, max_size=9).filter(
        lambda rows: any(usable for usable, _ in rows)
    ),
    st.integers(0, 1000),
)
def test_pairs_that_do_not_count_and_samples_that_repeat_go_together(
    rows: list[tuple[bool, int]], seed: int
) -> None:
    a, b = torch.tensor(np.random.default_rng(seed).normal(size=(2, len(rows), 5)))
    counts, samples = (torch.tensor(column) for column in zip(*rows, strict=True))
    found = nt_xent(a, b, 0.5, samples, counts)
    expected = nt_xent(a[counts], b[counts], 0.5, samples[counts])
    for value, other in zip(found, expected, strict=True):
        assert value.item() == pytest.approx(other.item(), rel=1e-9, abs=1e-12)


def test_further_views_of_a_sample_are_not_mistaken_for_the_other_one() -> None:
    a = torch.tensor([[1.0, 0.0], [1.0, 0.4]])
    b = torch.tensor([[1.0, 0.5], [1.0, 0.1]])  # each is nearest to the other pair's
    assert nt_xent(a, b, 0.1, torch.tensor([0, 1]))[1].item() == 0.0
    loss, found, chance = nt_xent(a, b, 0.1, torch.tensor([7, 7]))
    assert (loss.item(), found.item(), chance.item()) == (0.0, 1.0, 1.0)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=9), st.integers(0, 1000))
def test_pairs_that_do_not_count_are_as_if_they_were_not_there(
    usable: list[bool], seed: int
) -> None:
    random = np.random.default_rng(seed)
    a, b = torch.tensor(random.normal(size=(2, len(usable), 5)), requires_grad=True)
    counts = torch.tensor(usable)
    samples = torch.arange(len(usable))
    loss, found, chance = nt_xent(a, b, 0.5, samples, counts)
    if counts.any():
        expected, others, guessed = nt_xent(a[counts], b[counts], 0.5, samples[counts])
        assert loss.item() == pytest.approx(expected.item(), rel=1e-9, abs=1e-12)
        assert found.item() == pytest.approx(others.item())
        assert chance.item() == pytest.approx(guessed.item())
    else:
        assert (loss.item(), found.item(), chance.item()) == (0.0, 0.0, 0.0)
    for gradient in torch.autograd.grad(loss, (a, b)):
        assert torch.isfinite(gradient).all()
        assert not gradient[~counts].any()


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(0, 1000))
def test_image_text_equals_its_formula_with_shared_captions_and_samples_that_repeat(
    count: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    x, y = random.normal(size=(2, count, 5))
    ids, samples = random.integers(0, max(1, count // 2), (2, count))
    rows = torch.tensor(x), torch.tensor(y)
    loss, _ = image_text(*rows, torch.tensor([7.0]), torch.tensor(ids), torch.tensor(samples))
    expected = naive_image_text(x, y, 7.0, ids.tolist(), samples.tolist())
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_without_shared_captions_it_is_the_loss_of_the_clip_paper() -> None:
    random = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 6, 4, generator=random, dtype=torch.float64)
    x, y = torch.nn.functional.normalize(x), torch.nn.functional.normalize(y)
    loss, _ = image_text(x, y, torch.tensor([10.0]), torch.arange(6), torch.arange(6))
    logits, labels = 10.0 * x @ y.T, torch.arange(6)
    paper = (
        torch.nn.functional.cross_entropy(logits, labels)
        + torch.nn.functional.cross_entropy(logits.T, labels)
    ) / 2
    assert loss.item() == pytest.approx(paper.item(), rel=1e-12)


def test_accuracy_counts_a_caption_of_another_image_with_the_same_text() -> None:
    x = torch.eye(3)
    texts = torch.stack([x[1], x[0], x[2]])  # 0 and 1 swapped
    scale, samples = torch.tensor([10.0]), torch.arange(3)
    _, found = image_text(x, texts, scale, torch.tensor([5, 5, 6]), samples)
    assert found.item() == 1.0
    _, found = image_text(x, texts, scale, torch.tensor([4, 5, 6]), samples)
    assert found.item() == pytest.approx(1 / 3)


def test_captions_of_one_sample_on_two_workers_do_not_repel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 6, 4, generator=random, dtype=torch.float64)
    rows = x, y, torch.tensor([5, 6, 7, 8, 6, 9]), torch.tensor([0, 1, 2, 0, 3, 1])

    def work(rank: int) -> torch.Tensor:
        images, texts, identities, samples = (row.split(3)[rank] for row in rows)
        return image_text(images, texts, torch.tensor([10.0]), identities, samples)[0]

    losses, _ = as_workers(monkeypatch, contrastive, 2, work)
    expected, _ = image_text(x, y, torch.tensor([10.0]), *rows[2:])
    torch.testing.assert_close(sum(losses) / 2, expected, rtol=1e-9, atol=0)


def test_captions_of_one_sample_are_as_if_they_were_equal() -> None:
    x, y = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    scale, numbers = torch.tensor([10.0]), torch.arange(3)
    found = image_text(x, y, scale, torch.tensor([5, 6, 7]), torch.tensor([0, 0, 1]))
    assert found == image_text(x, y, scale, torch.tensor([5, 5, 7]), numbers)
    assert found != image_text(x, y, scale, torch.tensor([5, 6, 7]), numbers)
