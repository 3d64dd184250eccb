from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.cache import Firsts, SampleCache, cached_bytes, cut_firsts, read_once
from pipelines.core.source import RawSample
from pipelines.order import MixedOrder, Shuffle, ShuffledOrder
from pipelines.pieces import Pieces
from pipelines.reader import DataConfig, Reader, Share
from pipelines.reader_config import ReaderConfig
from pipelines.sources.synthetic import Synthetic
from pipelines.stream import stream, stream_here

PLENTY = 1 << 30
DECODE = {"size": 8, "text": {"caption": "txt"}}


class Damaged(Synthetic):
    """Some of whose samples cannot be read."""

    bad: tuple[int, ...] = ()

    def read(self, samples: np.ndarray) -> Iterator[RawSample]:
        for sample, raw in zip(samples.tolist(), super().read(samples), strict=True):
            yield replace(raw, fault="damaged") if sample in self.bad else raw


def reader_of(samples: int = 20, bad: tuple[int, ...] = (), **data: object) -> Reader:
    given = {"source": {"kind": "synthetic"}, "decode": DECODE, "shuffle": {"chunk": 2}, **data}
    source = Damaged(Synthetic.Config(samples=samples, size=16))
    source.bad = bad
    return Reader(source, DataConfig.model_validate(given), seed=5)


def kept(reader: Reader, share: Share, rows: int = 6, limit: int = PLENTY) -> list[pa.Table]:
    """All of a share through the cache, and without it from where it gave up."""
    tables = (t for part in cut_firsts(share, reader.order, rows) for t in reader.read(part))
    found = []

    def note() -> Iterator[pa.Table]:
        reached = yield from read_once(reader, share, Pieces(tables), limit)
        yield from stream_here(reader, replace(share, start=reached), ReaderConfig())

    found += note()
    return found


def same(found: list[pa.Table], expected: list[pa.Table]) -> bool:
    return len(found) == len(expected) and all(
        a.equals(b) and a.schema == b.schema for a, b in zip(found, expected, strict=True)
    )


@settings(deadline=None, max_examples=60)
@given(
    samples=st.integers(1, 40),
    local=st.integers(1, 12),
    workers=st.integers(1, 3),
    start=st.integers(0, 5),
    batches=st.integers(0, 20),
    rows=st.integers(1, 40),
    bad=st.sets(st.integers(0, 39), max_size=3),
    limit=st.sampled_from([PLENTY, 4000, 0]),
    data=st.data(),
)
def test_what_is_kept_is_what_would_be_read(
    samples, local, workers, start, batches, rows, bad, limit, data
):
    bad = {sample for sample in bad if sample < samples - 1 and samples > 12}
    reader = reader_of(samples, tuple(bad))
    rank = data.draw(st.integers(0, workers - 1))
    share = Share(local * workers, rank, workers, start, start + batches)
    assert same(kept(reader, share, rows, limit), list(reader.batches(share)))


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
    assert all(part.count > 0 for part in parts)
    assert all(len(samples) <= local for part in parts for _, samples in part.places(order))


def test_parts_with_little_to_read_are_joined():
    order = ShuffledOrder(64, 0, Shuffle(chunk=1, window=8))
    parts = list(cut_firsts(Share(8, 0, 4, 0, 400), order, 8))
    assert len(parts) < 64 / 4 + 2
    assert all(part.count >= 4 for part in parts[:-1])


def test_a_sample_that_comes_twice_at_once_comes_first_once():
    firsts = Firsts(4)
    assert firsts.take(np.array([2, 0, 2])).tolist() == [True, True, False]
    assert firsts.take(np.array([0, 1])).tolist() == [False, True]
    assert not firsts.complete
    firsts.take(np.array([3]))
    assert firsts.complete


def test_nothing_is_asked_for_twice_and_who_reads_ends_with_the_last_sample():
    reader, asked, ended = reader_of(), [], []
    share = Share(8, 0, 1, 0, 30)

    def read() -> Iterator[pa.Table]:
        for part in cut_firsts(share, reader.order, 8):
            asked.append(part.count)
            yield from reader.read(part)
        ended.append(len(found))

    found: list[pa.Table] = []
    for table in read_once(reader, share, Pieces(read()), PLENTY):
        found.append(table)
    assert sum(asked) == 20
    assert ended == [2]  # 20 samples are 2.5 batches: when the third is made
    assert len(found) == 30


def test_readers_that_end_early_end_the_share():
    reader, share = reader_of(), Share(8, 0, 1, 0, 30)
    assert len(list(read_once(reader, share, Pieces(iter([])), PLENTY))) == 0


@pytest.mark.parametrize("fields", [{"tags": "json.tags[]"}, {"a": "txt", "tags": "json.tags[]"}])
def test_lists_of_texts_are_kept_as_lists(fields):
    class Tagged(Synthetic):
        def read(self, samples: np.ndarray) -> Iterator[RawSample]:
            for number, raw in zip(samples.tolist(), super().read(samples), strict=True):
                tags = json.dumps({"tags": [f"t{n}" for n in range(1 + number % 3)]})
                yield replace(raw, members={**raw.members, "json": tags.encode()})

    reader = reader_of(decode={"size": None, "text": fields})
    reader.source = Tagged(Synthetic.Config(samples=20, size=16))
    share = Share(7, 0, 1, 0, 12)
    expected = list(reader.batches(share))
    assert len(set(map(len, expected[0]["text.tags"].to_pylist()))) == 3
    assert same(kept(reader, share), expected)


def test_memory_is_counted():
    reader, share = reader_of(), Share(8, 0, 1, 0, 30)
    guessed = cached_bytes(reader, share, PLENTY)
    cache = SampleCache(20)
    for table in reader.batches(Share(20, 0, 1, 0, 1)):
        cache.put(table["sample"].to_numpy(), table)
    assert guessed == pytest.approx(cache.nbytes, rel=0.1)
    assert guessed > 20 * 8 * 8 * 3


@pytest.mark.parametrize(
    ("batches", "limit", "decode"),
    [
        (2, PLENTY, DECODE),  # no sample comes twice
        (30, 20 * 8 * 8 * 3, DECODE),
        (30, 0, DECODE),
        (30, 0, {"size": None, "text": {"caption": "txt"}}),
        (30, PLENTY, {"size": None, "video": {"frames": 2, "size": 8}}),
    ],
)
def test_what_has_no_room_or_changes_or_comes_once_is_not_kept(batches, limit, decode):
    assert cached_bytes(reader_of(decode=decode), Share(8, 0, 1, 0, batches), limit) == 0


def test_long_texts_are_looked_at_before_they_are_kept():
    reader = reader_of(decode={"size": None, "text": {"caption": "txt"}})
    share = Share(8, 0, 1, 0, 30)
    found = cached_bytes(reader, share, PLENTY)
    assert found
    assert cached_bytes(reader, share, found - 1) == 0


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_stream_through_ray_keeps_what_it_has_read(rank, tmp_path):
    import ray

    class Noted(Damaged):
        def read(self, samples: np.ndarray) -> Iterator[RawSample]:
            for sample in samples.tolist():
                with (tmp_path / str(sample)).open("a") as file:
                    file.write("x")
            yield from super().read(samples)

    reader = reader_of(decode={"size": 8})
    noted = reader_of(decode={"size": 8})
    noted.source = Noted(Synthetic.Config(samples=20, size=16))
    share = Share(8, rank, 2, 1, 40)
    found = list(stream(ray.put(noted), share, ReaderConfig()))
    assert same(found, list(reader.batches(share)))
    reads = {int(path.name): len(path.read_text()) for path in tmp_path.iterdir()}
    assert reads == dict.fromkeys(range(20), 1)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_texts_that_grow_beyond_what_may_be_kept_are_streamed(monkeypatch):
    import ray

    import pipelines.stream as module

    reader, share = reader_of(), Share(8, 0, 1, 0, 12)
    monkeypatch.setattr(module, "cached_bytes", lambda *_: 1)
    found = list(stream(ray.put(reader), share, ReaderConfig(cache=2000)))
    assert same(found, list(reader.batches(share)))
