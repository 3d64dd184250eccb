from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.firsts import Firsts, cut_firsts
from pipelines.order import MixedOrder, Shuffle, ShuffledOrder
from pipelines.reader import Share


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=3),
    local=st.integers(1, 16),
    workers=st.integers(1, 4),
    rows=st.integers(1, 40),
    batches=st.integers(1, 60),
)
def test_each_sample_is_read_once_where_it_stands_first(sizes, local, workers, rows, batches):
    order = MixedOrder(sizes, [1] * len(sizes), 3, Shuffle(chunk=2, window=4))
    share = Share(local * workers, workers - 1, workers, 2, 2 + batches)
    parts = list(cut_firsts(share, order, rows))
    read = [int(s) for part in parts for _, samples in part.places(order) for s in samples]
    all_ = [order.at(*share.positions(batch))[1] for batch in range(share.start, share.stop)]
    assert read == list(dict.fromkeys(np.concatenate(all_).tolist()))
    assert sum(part.count for part in parts) == len(read)
    assert all(a.stop == b.start for a, b in pairwise(parts))
    assert all(len(samples) <= local for part in parts for _, samples in part.places(order))


def test_parts_with_little_to_read_are_joined():
    order = ShuffledOrder(64, 0, Shuffle(chunk=1, window=8))
    parts = list(cut_firsts(Share(8, 0, 4, 0, 400), order, 8))
    assert len(parts) < 64 / 4 + 2


def test_a_sample_that_comes_twice_at_once_comes_first_once():
    firsts = Firsts(4)
    assert firsts.take(np.array([2, 0, 2])).tolist() == [True, True, False]
    assert firsts.take(np.array([0, 1])).tolist() == [False, True]
    assert not firsts.complete
    firsts.take(np.array([3]))
    assert firsts.complete


def test_a_worker_that_never_meets_some_samples_does_not_look_through_its_run_for_them():
    order = MixedOrder([64, 64], [7, 1], 0, Shuffle())
    looked, at = [], order.at
    order.at = lambda start, stop: looked.append(1) or at(start, stop)
    parts = cut_firsts(Share(32, 1, 8, 0, 10_000_000), order, 16)
    assert sum(part.count for part, _ in zip(parts, range(100), strict=False)) == 64
    assert len(looked) < 10_000
