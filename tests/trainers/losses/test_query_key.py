from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.losses import query_key
from trainers.losses.query_key import info_nce


def naive(queries: np.ndarray, keys: np.ndarray, t: float, samples: list[int]) -> float:
    queries, keys = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, keys))
    losses = []
    for i, query in enumerate(queries):
        chances = [math.exp(query @ key / t) for key in keys]
        rivals = [c for j, c in enumerate(chances) if j == i or samples[j] != samples[i]]
        losses.append(-math.log(chances[i] / sum(rivals)))
    return sum(losses) / len(losses)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=9),
    st.booleans(),
    st.sampled_from([0.1, 0.2, 1.0]),
    st.integers(0, 1000),
)
def test_it_equals_its_formula_also_with_samples_that_repeat(
    samples: list[int], unique: bool, temperature: float, seed: int
) -> None:
    queries, keys = np.random.default_rng(seed).normal(size=(2, len(samples), 5))
    numbers = list(range(len(samples))) if unique else samples
    loss, _ = info_nce(
        torch.tensor(queries), torch.tensor(keys), temperature, torch.tensor(numbers)
    )
    expected = naive(queries, keys, temperature, numbers)
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_accuracy_counts_queries_whose_own_key_is_nearest() -> None:
    keys = torch.eye(4)
    queries = keys + 2 * keys[[0, 1, 3, 2]]
    assert info_nce(queries, keys, 0.2, torch.arange(4))[1].item() == 0.5
    # The key of a sample's other copy is no wrong answer, as it is none of the choices.
    assert info_nce(queries, keys, 0.2, torch.tensor([0, 1, 7, 7]))[1].item() == 1.0


def test_a_copy_on_another_worker_is_hidden_too(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, keys = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    samples = torch.tensor([3, 4, 4, 5])
    whole = info_nce(queries, keys, 0.2, samples)[0]
    losses = []
    for rank, mine in enumerate((slice(0, 2), slice(2, 4))):
        joined = [torch.nn.functional.normalize(keys), samples]
        monkeypatch.setattr(query_key, "world", lambda rank=rank: (rank, 2))
        monkeypatch.setattr(query_key, "gather", lambda rows, joined=joined: joined.pop(0))
        losses.append(info_nce(queries[mine], keys[mine], 0.2, samples[mine])[0])
    torch.testing.assert_close(torch.stack(losses).mean(), whole)
