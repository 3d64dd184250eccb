from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.order import Cursor, MixedOrder, Order, Shuffle, ShuffledOrder

SIZES = st.integers(1, 90)
SHUFFLES = st.builds(Shuffle, chunk=st.integers(1, 9), window=st.integers(1, 15))
SEEDS = st.integers(-(1 << 62), 1 << 62)
MIXTURES = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 9)), min_size=2, max_size=6)


def make(size: int, seed: int = 0, chunk: int = 4, window: int = 2) -> ShuffledOrder:
    return ShuffledOrder(size, seed, Shuffle(chunk=chunk, window=window))


def mixed(parts: list[tuple[int, int]], seed: int = 0, chunk: int = 4) -> MixedOrder:
    sizes, weights = zip(*parts, strict=True)
    return MixedOrder(sizes, weights, seed, Shuffle(chunk=chunk, window=2))


@given(SIZES, SEEDS, SHUFFLES, st.integers(0, 1000))
def test_an_epoch_holds_every_sample_once(size, seed, shuffle, epoch):
    order = ShuffledOrder(size, seed, shuffle)
    epochs, samples = order.at(epoch * size, (epoch + 1) * size)
    assert sorted(samples.tolist()) == list(range(size))
    assert set(epochs.tolist()) == {epoch}
    assert epochs.dtype == samples.dtype == np.int64


def slices_agree(build, end, data):
    start = data.draw(st.integers(0, end))
    stop = data.draw(st.integers(start, end))
    whole_epochs, whole_samples = build().at(0, end)
    # A fresh object: nothing may depend on what was looked up before.
    epochs, samples = build().at(start, stop)
    assert samples.tolist() == whole_samples[start:stop].tolist()
    assert epochs.tolist() == whole_epochs[start:stop].tolist()


@given(SIZES, SEEDS, SHUFFLES, st.data())
def test_any_slice_agrees_with_the_whole(size, seed, shuffle, data):
    slices_agree(lambda: ShuffledOrder(size, seed, shuffle), 4 * size, data)


@given(SIZES, SEEDS, SHUFFLES)
def test_positions_count_on_across_epochs(size, seed, shuffle):
    epochs, _ = ShuffledOrder(size, seed, shuffle).at(0, 3 * size)
    assert epochs.tolist() == [position // size for position in range(3 * size)]


@given(SIZES, SEEDS, SHUFFLES, st.integers(0, 3))
def test_between_two_boundaries_are_the_samples_of_a_window_of_chunks(size, seed, shuffle, epoch):
    order = ShuffledOrder(size, seed, shuffle)
    positions = range(epoch * size, (epoch + 1) * size)
    cuts = sorted({order.boundary(position) for position in positions})
    assert cuts[0] == epoch * size
    assert len(cuts) == math.ceil(math.ceil(size / shuffle.chunk) / shuffle.window)
    for start, stop in zip(cuts, [*cuts[1:], (epoch + 1) * size], strict=True):
        _, samples = order.at(start, stop)
        chunks = set((samples // shuffle.chunk).tolist())
        assert len(chunks) <= shuffle.window
        whole = [n for c in chunks for n in range(c * shuffle.chunk, (c + 1) * shuffle.chunk)]
        assert sorted(samples.tolist()) == sorted(n for n in whole if n < size)
        assert all(order.boundary(position) == start for position in range(start, stop))


def test_neighbours_come_from_one_window():
    _, samples = make(400, chunk=10, window=4).at(0, 400)
    for window in samples.reshape(10, 40):
        assert len(set((window // 10).tolist())) == 4


def test_a_window_of_one_chunk_still_shuffles_inside_it():
    _, samples = make(100, chunk=50, window=1).at(0, 100)
    assert samples[:50].tolist() != sorted(samples[:50].tolist())


def test_epochs_and_seeds_have_their_own_order():
    first = make(100, seed=1, chunk=5)
    orders = [first.at(epoch * 100, (epoch + 1) * 100)[1].tolist() for epoch in range(5)]
    orders += [make(100, seed=seed, chunk=5).at(0, 100)[1].tolist() for seed in (-1, 0, 2, 3)]
    assert len({tuple(samples) for samples in orders}) == len(orders)


@pytest.mark.parametrize(("size", "chunk", "window"), [(32, 4, 8), (34, 4, 3), (33, 1, 5)])
def test_a_sample_has_no_favourite_place(size, chunk, window):
    order = make(size, chunk=chunk, window=window)
    samples = np.stack([order.at(e * size, (e + 1) * size)[1] for e in range(400)])
    places = np.argsort(samples, axis=1)  # [epoch, sample]
    standard_error = np.sqrt((size**2 - 1) / 12 / 400)
    assert np.abs(places.mean(axis=0) - (size - 1) / 2).max() < 5 * standard_error


def test_a_short_chunk_is_as_likely_anywhere_as_the_others():
    order = make(10, chunk=4, window=1)  # chunks of 4, 4 and 2
    firsts = [order.at(epoch * 10, epoch * 10 + 1)[1][0] // 4 for epoch in range(600)]
    counts = np.bincount(firsts, minlength=3)
    assert np.abs(counts - 200).max() < 5 * np.sqrt(600 * 1 / 3 * 2 / 3)


def test_the_frozen_order():
    # A change here changes the order of every run and every resume: say so in CHANGELOG.
    _, samples = make(14, seed=7).at(0, 28)
    first = [10, 8, 11, 9, 13, 12, 0, 7, 2, 6, 5, 1, 3, 4]
    second = [6, 4, 5, 1, 7, 3, 2, 0, 8, 13, 12, 11, 10, 9]
    assert samples.tolist() == first + second


def test_an_empty_slice_is_empty():
    for order in (make(3), mixed([(3, 1), (2, 1)])):
        epochs, samples = order.at(2, 2)
        assert len(epochs) == len(samples) == 0
        assert samples.dtype == np.int64


def test_a_billion_samples_are_looked_up_without_being_listed():
    order = make(1_000_000_007, chunk=16, window=64)
    _, late = order.at(990_000_000, 990_004_096)
    assert len(set(late.tolist())) == 4096
    assert late.min() >= 0
    assert late.max() < order.size
    # Chunks come from everywhere, not from the neighbourhood.
    assert np.quantile(late, [0.1, 0.9]) == pytest.approx([1e8, 9e8], rel=0.5)


class TestMixture:
    """Fixed proportions, and every data set in its own epochs."""

    @given(MIXTURES, SEEDS, st.data())
    def test_any_slice_agrees_with_the_whole(self, parts, seed, data):
        slices_agree(lambda: mixed(parts, seed), 200, data)

    @given(MIXTURES, st.integers(0, 300), st.integers(1, 60))
    def test_every_run_of_positions_has_its_shares(self, parts, start, length):
        order = mixed(parts)
        counts = np.bincount(order.which(start, start + length), minlength=len(parts))
        total = sum(weight for _, weight in parts)
        levels = int(np.ceil(np.log2(len(parts))))
        for count, (_, weight) in zip(counts, parts, strict=True):
            assert abs(count - length * weight / total) < 1 + levels

    @given(MIXTURES, st.integers(1, 5))
    def test_a_batch_of_whole_shares_has_them_exactly(self, parts, times):
        batch = times * sum(weight for _, weight in parts)
        order = mixed(parts)
        for number in range(4):
            which = order.which(number * batch, (number + 1) * batch)
            counts = np.bincount(which, minlength=len(parts)).tolist()
            assert counts == [times * weight for _, weight in parts]

    @given(MIXTURES, SEEDS)
    def test_each_data_set_is_delivered_once_an_epoch_of_its_own(self, parts, seed):
        order = mixed(parts, seed)
        epochs, samples = order.at(0, 400)
        offset = 0
        for size, _ in parts:
            mine = (samples >= offset) & (samples < offset + size)
            seen = epochs[mine]
            assert (np.diff(seen) >= 0).all()  # an exhausted data set starts its next epoch
            for epoch in range(int(mine.sum()) // size):
                one = samples[mine][epoch * size : (epoch + 1) * size] - offset
                assert sorted(one.tolist()) == list(range(size))
                assert set(seen[epoch * size : (epoch + 1) * size].tolist()) == {epoch}
            offset += size

    @given(MIXTURES, st.integers(0, 500))
    def test_the_cursors_say_what_was_delivered(self, parts, delivered):
        order = mixed(parts)
        counts = np.bincount(order.which(0, delivered), minlength=len(parts)).tolist()
        cursors = order.cursors(delivered)
        sizes = [size for size, _ in parts]
        assert [c.delivered(s) for c, s in zip(cursors, sizes, strict=True)] == counts

    def test_equal_data_sets_are_shuffled_independently(self):
        order = mixed([(40, 1), (40, 1)])
        _, samples = order.at(0, 80)
        assert samples[samples < 40].tolist() != (samples[samples >= 40] - 40).tolist()

    def test_positions_far_on_are_exact(self):
        order = mixed([(10**9, 7000), (10**6, 2999), (7, 1)])
        far = 10**12
        sizes = (10**9, 10**6, 7)
        counts = [c.delivered(s) for c, s in zip(order.cursors(far), sizes, strict=True)]
        assert counts == [far * 7000 // 10000, far * 2999 // 10000, far // 10000]
        epochs, _ = order.at(far, far + 1000)
        assert np.bincount(order.which(far, far + 10_000)).tolist() == [7000, 2999, 1]
        assert epochs.max() > 10**6


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


def test_orders_fulfil_their_contract():
    orders: list[Order] = [make(10), mixed([(5, 1), (5, 1)])]
    assert [order.size for order in orders] == [10, 10]
    assert [order.seed for order in orders] == [0, 0]
    assert [len(order.cursors(7)) for order in orders] == [1, 2]
