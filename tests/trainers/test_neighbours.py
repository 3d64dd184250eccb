from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.core import UserError
from trainers import neighbours
from trainers.neighbours import top_k, vote


def naive(queries: torch.Tensor, candidates: torch.Tensor, k: int):
    scores, places = [], []
    for query in queries.double().numpy():
        cosines = [
            float(query @ other / (np.linalg.norm(query) * np.linalg.norm(other)))
            for other in candidates.double().numpy()
        ]
        order = sorted(range(len(cosines)), key=lambda i: -cosines[i])[:k]
        places.append(order)
        scores.append([cosines[i] for i in order])
    return torch.tensor(scores).float(), torch.tensor(places)


@pytest.fixture
def vectors() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.randn(37, 8, generator=random) * 5, torch.randn(23, 8, generator=random)


@pytest.mark.parametrize("entries", [1, 23 * 5, 1 << 24])
def test_agrees_with_a_loop_whatever_is_held_at_once(vectors, entries, monkeypatch):
    monkeypatch.setattr(neighbours, "_ENTRIES", entries)
    scores, places = top_k(*vectors, 4)
    expected_scores, expected_places = naive(*vectors, 4)
    assert torch.equal(places, expected_places)
    torch.testing.assert_close(scores, expected_scores)


def test_more_neighbours_than_candidates_are_all_candidates(vectors):
    queries, candidates = vectors
    scores, places = top_k(queries, candidates[:3], 10)
    assert scores.shape == places.shape == (37, 3)


def test_never_holds_the_whole_matrix(vectors, monkeypatch):
    monkeypatch.setattr(neighbours, "_ENTRIES", 46)
    sizes = []
    plain = torch.Tensor.topk

    def spy(self, *args, **kwargs):
        sizes.append(self.numel())
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "topk", spy)
    top_k(*vectors, 4)
    assert max(sizes) <= 46


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(vectors, side, value):
    vectors[side][2, 3] = value
    with pytest.raises(UserError, match="diverged"):
        top_k(*vectors, 4)


def test_votes_are_weighted():
    scores = torch.tensor([[0.9, 0.5, 0.5], [0.9, 0.89, 0.88]])
    labels = torch.tensor([[7, 3, 3], [7, 3, 3]])
    assert vote(scores, labels, 0.07).tolist() == [7, 3]


def test_of_equal_votes_the_nearest_wins():
    scores = torch.tensor([[0.5, 0.5, 0.5, 0.5]])
    assert vote(scores, torch.tensor([[4, 1, 1, 4]]), 0.1).tolist() == [4]


def test_a_low_temperature_does_not_overflow():
    scores = torch.tensor([[1.0, 0.9999, 0.9999, 0.9999]])  # weights 1, and 3 / e > 1
    assert vote(scores, torch.tensor([[2, 1, 1, 1]]), 1e-4).tolist() == [1]


def test_votes_in_parts_are_the_same(monkeypatch):
    random = torch.Generator().manual_seed(0)
    scores = torch.rand(50, 6, generator=random).sort(1, descending=True).values
    labels = torch.randint(4, (50, 6), generator=random)
    whole = vote(scores, labels, 0.07)
    monkeypatch.setattr(neighbours, "_VOTES", 7 * 6)
    assert torch.equal(vote(scores, labels, 0.07), whole)


def by_all_pairs(scores: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    weights = ((scores - scores[:, :1]) / temperature).double().exp()
    same = labels[:, :, None] == labels[:, None, :]
    totals = (same * weights[:, None, :]).sum(2)
    return labels.gather(1, totals.argmax(1, keepdim=True))[:, 0]


@pytest.mark.parametrize("k", [1, 6, 40])
@pytest.mark.parametrize("levels", [None, 1, 2])
def test_votes_are_those_of_all_pairs_of_neighbours_ties_included(k, levels):
    random = torch.Generator().manual_seed(k)
    scores = torch.rand(500, k, generator=random)
    if levels:  # weights of exactly 1 and 0: many sums are equal, and none is rounded
        scores = (scores * levels).floor() * 100
    scores = scores.sort(1, descending=True).values
    labels = torch.randint(-2, 5, (500, k), generator=random) * 10**12
    assert torch.equal(vote(scores, labels, 0.07), by_all_pairs(scores, labels, 0.07))


def test_votes_of_many_neighbours_are_never_held_as_pairs(monkeypatch):
    monkeypatch.setattr(neighbours, "_VOTES", 100)
    sizes = []

    class Spy(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            found = func(*args, **(kwargs or {}))
            made = found if isinstance(found, (tuple, list)) else [found]
            sizes.extend(t.numel() for t in made if isinstance(t, torch.Tensor))
            return found

    scores = torch.ones(30, 40)
    labels = torch.arange(40).expand(30, 40)
    with Spy():
        vote(scores, labels, 0.1)
    assert max(sizes) <= 100
