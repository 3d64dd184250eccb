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
    monkeypatch.setattr(neighbours, "_TOGETHER", 7)
    assert torch.equal(vote(scores, labels, 0.07), whole)
