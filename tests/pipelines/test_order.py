from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.order import Cursor, Order

CHUNKS = st.lists(st.integers(1, 9), min_size=1, max_size=12)
WINDOWS = st.integers(1, 15)
SEEDS = st.integers(-(1 << 62), 1 << 62)


def make(chunks: list[int], seed: int = 0, window: int = 2) -> Order:
    return Order(np.array(chunks, dtype=np.int64), seed, window)


@given(CHUNKS, SEEDS, WINDOWS, st.integers(0, 1000))
def test_an_epoch_holds_every_sample_once(chunks, seed, window, epoch):
    order = make(chunks, seed, window)
    epochs, samples = order.at(epoch * order.size, (epoch + 1) * order.size)
    assert sorted(samples.tolist()) == list(range(sum(chunks)))
    assert set(epochs.tolist()) == {epoch}
    assert epochs.dtype == samples.dtype == np.int64


@given(CHUNKS, SEEDS, WINDOWS, st.data())
def test_any_slice_agrees_with_the_whole(chunks, seed, window, data):
    order = make(chunks, seed, window)
    end = 4 * order.size
    start = data.draw(st.integers(0, end))
    stop = data.draw(st.integers(start, end))
    whole_epochs, whole_samples = order.at(0, end)
    # A fresh object: nothing may depend on what was looked up before.
    epochs, samples = make(chunks, seed, window).at(start, stop)
    assert samples.tolist() == whole_samples[start:stop].tolist()
    assert epochs.tolist() == whole_epochs[start:stop].tolist()


@given(CHUNKS, SEEDS, WINDOWS)
def test_positions_count_on_across_epochs(chunks, seed, window):
    order = make(chunks, seed, window)
    epochs, _ = order.at(0, 3 * order.size)
    assert epochs.tolist() == [position // order.size for position in range(3 * order.size)]


@given(CHUNKS, SEEDS, WINDOWS)
def test_a_window_mixes_the_samples_of_its_own_chunks_only(chunks, seed, window):
    order = make(chunks, seed, window)
    chunk_of = np.repeat(np.arange(len(chunks)), chunks)
    _, samples = order.at(0, order.size)
    rest = samples.tolist()
    while rest:
        # The first ``window`` chunks that appear are a window's: all its samples come now.
        group = list(dict.fromkeys(chunk_of[rest].tolist()))[:window]
        size = sum(chunks[chunk] for chunk in group)
        assert set(chunk_of[rest[:size]].tolist()) == set(group)
        rest = rest[size:]


def test_neighbours_come_from_one_window():
    order = make([10] * 40, window=4)
    _, samples = order.at(0, order.size)
    for window in samples.reshape(10, 40):
        assert len(set((window // 10).tolist())) == 4


def test_a_window_of_one_chunk_still_shuffles_inside_it():
    _, samples = make([50, 50], window=1).at(0, 100)
    assert samples[:50].tolist() != sorted(samples[:50].tolist())


def test_epochs_and_seeds_have_their_own_order():
    first = make([5] * 20, seed=1)
    orders = [first.at(epoch * 100, (epoch + 1) * 100)[1].tolist() for epoch in range(5)]
    orders += [make([5] * 20, seed=seed).at(0, 100)[1].tolist() for seed in (-1, 0, 2, 3)]
    assert len({tuple(samples) for samples in orders}) == len(orders)


def test_a_sample_has_no_favourite_place():
    order = make([4] * 8, window=8)
    samples = np.stack([order.at(e * 32, (e + 1) * 32)[1] for e in range(400)])
    places = np.argsort(samples, axis=1)  # [epoch, sample]
    standard_error = np.sqrt((32**2 - 1) / 12 / 400)
    assert np.abs(places.mean(axis=0) - 15.5).max() < 5 * standard_error


def test_the_frozen_order():
    # A change here changes the order of every run and every resume: say so in CHANGELOG.
    _, samples = make([3, 4, 2, 5], seed=7, window=2).at(0, 28)
    first = [0, 3, 1, 4, 6, 5, 2, 10, 7, 9, 8, 11, 13, 12]
    second = [1, 0, 13, 10, 2, 12, 11, 9, 8, 6, 4, 5, 3, 7]
    assert samples.tolist() == first + second


def test_an_empty_slice_is_empty():
    epochs, samples = make([3]).at(2, 2)
    assert len(epochs) == len(samples) == 0
    assert samples.dtype == np.int64


@given(st.integers(0, 1 << 40), st.integers(1, 1 << 20))
def test_a_cursor_round_trips(delivered, size):
    cursor = Cursor.at(delivered, size)
    assert 0 <= cursor.position < size
    assert cursor.delivered(size) == delivered


@pytest.mark.parametrize(
    ("delivered", "cursor"),
    [(0, Cursor(0, 0)), (9, Cursor(0, 9)), (10, Cursor(1, 0)), (25, Cursor(2, 5))],
)
def test_a_cursor_is_epoch_and_position(delivered, cursor):
    assert Cursor.at(delivered, 10) == cursor
