from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core import randomness
from pipelines.core.permutation import fold, hashes, mix, permute, ranks

WORDS = st.tuples(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(0, 1000))


@given(st.integers(1, 700), WORDS)
def test_a_permutation_has_every_number_once(size, words):
    found = permute(np.arange(size), size, words)
    assert sorted(found.tolist()) == list(range(size))


@given(st.integers(1, 10**12), WORDS, st.data())
def test_places_are_looked_up_one_by_one(size, words, data):
    places = data.draw(st.lists(st.integers(0, size - 1), max_size=20))
    together = permute(np.array(places, dtype=np.int64), size, words)
    assert all(0 <= number < size for number in together.tolist())
    for place, number in zip(places, together.tolist(), strict=True):
        assert permute(np.array([place]), size, words).tolist() == [number]


def test_other_words_give_other_permutations():
    found = {tuple(permute(np.arange(50), 50, (seed, 0)).tolist()) for seed in range(20)}
    assert len(found) == 20


@pytest.mark.parametrize("size", [3, 16, 17, 100])
def test_every_number_is_as_likely_at_every_place(size):
    turns = 3000
    found = np.stack([permute(np.arange(size), size, (turn,)) for turn in range(turns)])
    for place in (0, size // 2, size - 1):
        counts = np.bincount(found[:, place], minlength=size)
        expected = turns / size
        chi_squared = float(((counts - expected) ** 2 / expected).sum())
        assert chi_squared < size - 1 + 5 * np.sqrt(2 * (size - 1))


def test_neighbouring_places_are_independent():
    found = permute(np.arange(100_000), 100_000, (1, 2)).astype(float)
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.02


@given(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(0, 99), st.integers(0, 1 << 40))
def test_hashes_are_those_of_the_training_device(seed, epoch, sample):
    keys = randomness.sample_keys(seed, torch.tensor([epoch]), torch.tensor([sample]))
    assert fold((seed, epoch, sample)).view(np.int64).tolist() == keys.tolist()
    assert hashes((seed, epoch), np.array([sample])).view(np.int64).tolist() == keys.tolist()


def test_mixing_wraps():
    top = np.array([(1 << 64) - 1], dtype=np.uint64)
    there = randomness.mix(torch.tensor([-1])).numpy().view(np.uint64)
    assert mix(top).tolist() == there.tolist()


@given(st.integers(0, 10**12), st.integers(0, 10_000), st.integers(1, 10_000))
def test_ranks_are_exact(place, part, whole):
    assert ranks(np.array([place]), part, whole).tolist() == [place * part // whole]
