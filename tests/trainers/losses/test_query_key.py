from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.losses.query_key import info_nce


def naive(queries: np.ndarray, keys: np.ndarray, t: float) -> float:
    queries, keys = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, keys))
    losses = []
    for i, query in enumerate(queries):
        chances = [math.exp(query @ key / t) for key in keys]
        losses.append(-math.log(chances[i] / sum(chances)))
    return sum(losses) / len(losses)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.sampled_from([0.1, 0.2, 1.0]), st.integers(0, 1000))
def test_it_equals_its_formula(count: int, temperature: float, seed: int) -> None:
    queries, keys = np.random.default_rng(seed).normal(size=(2, count, 5))
    loss, _ = info_nce(torch.tensor(queries), torch.tensor(keys), temperature)
    assert loss.item() == pytest.approx(naive(queries, keys, temperature), rel=1e-9, abs=1e-12)


def test_accuracy_counts_queries_whose_own_key_is_nearest() -> None:
    keys = torch.eye(4)
    _, found = info_nce(keys[[0, 1, 3, 2]], keys, 0.2)
    assert found.item() == 0.5
