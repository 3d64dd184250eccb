from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.cache import SampleCache
from pipelines.core.source import RawSample
from pipelines.firsts import cut_firsts
from pipelines.order import MixedOrder, Shuffle
from pipelines.pieces import Pieces
from pipelines.read_once import cached_bytes, read_once, read_share
from pipelines.reader import DataConfig, Reader, Share
from pipelines.reader_config import ReaderConfig
from pipelines.sources.synthetic import Synthetic
from pipelines.stream import _segments, stream, stream_here

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


class Noted(Damaged):
    """Which notes in a folder what is read, and by which processes."""

    folder: Path

    def read(self, samples: np.ndarray) -> Iterator[RawSample]:
        for sample in samples.tolist():
            with (self.folder / str(sample)).open("a") as file:
                file.write(f"{os.getpid()}\n")
        yield from super().read(samples)


def noted_reader(folder: Path, bad: tuple[int, ...] = ()) -> Reader:
    reader = reader_of()
    reader.source = Noted(Synthetic.Config(samples=20, size=16))
    reader.source.folder, reader.source.bad = folder, bad
    return reader


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
    cache = SampleCache(20)
    for table in reader.batches(Share(20, 0, 1, 0, 1)):
        cache.put(table["sample"].to_numpy(), table)
    assert cached_bytes(reader, share, PLENTY) == pytest.approx(cache.projected, rel=0.1)
    assert cache.projected > 20 * 8 * 8 * 3


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


@pytest.mark.parametrize(("workers", "kept"), [(1, True), (2, True), (16, False)])
def test_nothing_is_kept_where_most_is_read_again_all_the_same(workers, kept):
    share = Share(16, 0, workers, 0, 3)  # 48 samples of 20
    assert (cached_bytes(reader_of(), share, PLENTY) > 0) is kept


@given(workers=st.integers(1, 64), epochs=st.floats(0.1, 1000))
def test_what_is_read_is_a_share(workers, epochs):
    found = read_share(workers, epochs)
    assert min(1.0, 1 / epochs) <= found + 1e-9 <= 1 + 2e-9
    assert found >= read_share(workers, epochs + 1) - 1e-9


def test_a_graph_is_started_before_the_whole_run_was_looked_through():
    order = MixedOrder([64, 64], [7, 1], 0, Shuffle())
    looked, at = [], order.at
    order.at = lambda start, stop: looked.append(1) or at(start, stop)
    parts = cut_firsts(Share(32, 1, 8, 0, 10_000_000), order, 128)
    segment = next(_segments(parts))
    assert sum(part.count for part in segment) == 64
    assert len(looked) < 12_000


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

    reader, noted = reader_of(), noted_reader(tmp_path)
    share = Share(8, rank, 2, 1, 40)
    found = list(stream(ray.put(noted), share, ReaderConfig()))
    assert same(found, list(reader.batches(share)))
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == list(range(20))
    assert all(len(path.read_text().split()) == 1 for path in tmp_path.iterdir())


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_the_training_process_reads_nothing_itself(tmp_path):
    import ray

    reader, noted = reader_of(bad=(3, 11)), noted_reader(tmp_path, bad=(3, 11))
    share = Share(8, 0, 1, 0, 40)
    found = list(stream(ray.put(noted), share, ReaderConfig()))
    assert same(found, list(reader.batches(share)))
    faults = [fault for table in found for fault in table["fault"].to_pylist() if fault]
    assert len(faults) == 2 * 16
    assert str(os.getpid()) not in {
        pid for path in tmp_path.iterdir() for pid in path.read_text().split()
    }


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_texts_that_grow_beyond_what_may_be_kept_are_streamed(monkeypatch):
    import ray

    import pipelines.stream as module

    cuts, read = [], module._read_blocks

    def noted(*given: Any) -> Iterator[pa.Table]:
        cuts.append(given[3].__name__)
        return read(*given)

    monkeypatch.setattr(module, "_read_blocks", noted)
    reader, share = reader_of(), Share(8, 0, 1, 0, 12)
    least = 20 * (8 * 8 * 3 + 64)
    found = list(stream(ray.put(reader), share, ReaderConfig(cache=least)))
    assert same(found, list(reader.batches(share)))
    assert cuts == ["cut_firsts", "cut"]
