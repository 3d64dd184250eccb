from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core import DataError
from pipelines.core.source import Part, RawSample
from pipelines.reader import DataConfig, Reader, Rows, Share, cut, open_source
from pipelines.sources.synthetic import Synthetic

SIZE = 16


class Listed:
    """A source over samples in memory that counts what is read of it."""

    digest, shards, faults = "listed", 1, ()

    def __init__(self, samples: Sequence[RawSample]):
        self._samples = samples
        self.reads: list[int] = []

    @property
    def parts(self) -> tuple[Part]:
        return (Part(len(self._samples)),)

    def read(self, samples: np.ndarray) -> Iterator[RawSample]:
        self.reads.append(len(samples))
        return (self._samples[sample] for sample in samples)


def data(chunk: int = 4, window: int = 2, **decode: object) -> DataConfig:
    return DataConfig.model_validate(
        {
            "source": {"kind": "synthetic"},
            "decode": {"size": SIZE, "text": {"caption": "txt"}, **decode},
            "shuffle": {"chunk": chunk, "window": window},
        }
    )


@pytest.fixture(scope="module")
def make(picture) -> Callable[..., Reader]:
    def build(count: int = 20, bad: frozenset[int] = frozenset(), seed: int = 3) -> Reader:
        samples = [
            RawSample(
                "s.tar",
                f"k{number}",
                {
                    "png": b"broken" if number in bad else picture(number, SIZE, SIZE),
                    "txt": b"caption %d" % number,
                },
            )
            for number in range(count)
        ]
        return Reader(Listed(samples), data(), seed)

    return build


def read(reader: Reader, batch: int, workers: int, start: int, stop: int) -> list[pa.Table]:
    """Global batches: the shares of all workers put together in order of rank."""
    shares = [
        list(reader.batches(Share(batch, rank, workers, start, stop))) for rank in range(workers)
    ]
    return [pa.concat_tables(parts).combine_chunks() for parts in zip(*shares, strict=True)]


def column(tables: list[pa.Table], name: str) -> list[object]:
    return [value for table in tables for value in table[name].to_pylist()]


@given(
    st.integers(1, 6).flatmap(lambda w: st.tuples(st.just(w), st.integers(1, 6).map(w.__mul__))),
    st.integers(0, 10_000),
)
def test_the_shares_of_any_world_size_make_up_the_global_batch(sizes, batch):
    workers, global_batch = sizes
    places: list[int] = []
    for rank in range(workers):
        places += range(*Share(global_batch, rank, workers, 0, 1).positions(batch))
    assert places == list(range(batch * global_batch, (batch + 1) * global_batch))


def test_rows_follow_the_order(make, picture):
    reader = make()
    tables = read(reader, 6, 1, 0, 7)  # 42 rows: across two ends of an epoch of 20
    epochs, samples = reader.order.at(0, 42)
    assert column(tables, "sample") == samples.tolist()
    assert column(tables, "epoch") == epochs.tolist()
    assert column(tables, "text.caption") == [f"caption {sample}" for sample in samples]
    assert set(column(tables, "fault")) == {""}
    images = np.array(column(tables, "image"), dtype=np.uint8).reshape(-1, SIZE, SIZE, 3)
    assert len(images) == 42
    first = np.random.default_rng(int(samples[0])).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    assert np.array_equal(images[0], first)


def test_a_table_has_typed_columns_and_one_row_a_sample(make):
    (table,) = make().batches(Share(8, 1, 2, 2, 3))
    assert table.num_rows == 4
    types = {field.name: str(field.type) for field in table.schema}
    assert types == {
        "epoch": "int64",
        "sample": "int64",
        "key": "string",
        "fault": "string",
        "text.caption": "string",
        "image": f"fixed_size_list<item: uint8>[{SIZE * SIZE * 3}]",
    }


def test_without_images_there_is_no_image_column(make):
    reader = Reader(make().source, data(size=None), 0)
    (table,) = reader.batches(Share(4, 0, 1, 0, 1))
    assert table.column_names == ["epoch", "sample", "key", "fault", "text.caption"]


@pytest.mark.parametrize("bad", [frozenset(), frozenset({0, 3, 4, 11, 19})])
@pytest.mark.parametrize("workers", [2, 4])
def test_the_number_of_workers_changes_nothing(make, bad, workers):
    alone = read(make(bad=bad), 8, 1, 0, 6)
    together = read(make(bad=bad), 8, workers, 0, 6)
    assert len(alone) == len(together) == 6
    for expected, found in zip(alone, together, strict=True):
        assert found.equals(expected)


@pytest.mark.parametrize("start", range(7))
def test_a_resume_sees_the_rest_of_the_uninterrupted_run(make, start):
    bad = frozenset({1, 2, 7})
    whole = read(make(bad=bad), 6, 1, 0, 7)
    rest = read(make(bad=bad), 6, 2, start, 7)
    assert len(rest) == 7 - start
    for expected, found in zip(whole[start:], rest, strict=True):
        assert found.equals(expected)


def test_every_sample_is_delivered_once_an_epoch(make):
    tables = read(make(count=24), 6, 2, 0, 8)
    for epoch in range(2):
        delivered = column(tables[4 * epoch : 4 * epoch + 4], "sample")
        assert sorted(delivered) == list(range(24))


def test_a_bad_sample_is_replaced_and_recorded(make):
    bad = frozenset({5, 6})
    reader = make(bad=bad)
    tables = read(reader, 5, 1, 0, 4)
    _, asked = reader.order.at(0, 20)
    delivered = column(tables, "sample")
    assert not bad & set(delivered)
    for wanted, found, fault, caption in zip(
        asked.tolist(),
        delivered,
        column(tables, "fault"),
        column(tables, "text.caption"),
        strict=True,
    ):
        assert caption == f"caption {found}"
        if wanted in bad:
            first, *more = json.loads(fault)
            assert first["shard"] == "s.tar"
            assert first["key"] == f"k{wanted}"
            assert first["reason"].startswith("not a readable image")
            # A substitute may be bad too: then the fault names both.
            assert {int(each["key"][1:]) for each in more} <= bad
        else:
            assert (found, fault) == (wanted, "")


def test_substitutes_differ_between_epochs(make):
    reader = make(bad=frozenset({5}))
    tables = read(reader, 20, 1, 0, 8)
    substitutes = [
        found
        for found, fault in zip(column(tables, "sample"), column(tables, "fault"), strict=True)
        if fault
    ]
    assert len(substitutes) == 8
    assert len(set(substitutes)) > 3


def test_a_data_set_without_readable_samples_is_an_error(make):
    reader = make(bad=frozenset(range(20)))
    with pytest.raises(DataError) as caught:
        read(reader, 4, 1, 0, 1)
    text = str(caught.value)
    assert text.startswith("s.tar: 17 samples tried, none readable; k")
    assert "not a readable image" in text
    assert "\n" not in text


def test_a_text_that_no_column_can_hold_costs_one_sample(picture):
    text = rb'{"c": "\ud83e"}'
    samples = [
        RawSample("s.tar", f"k{i}", {"png": picture(i), "json": text if i == 2 else b'{"c": "x"}'})
        for i in range(6)
    ]
    reader = Reader(Listed(samples), data(text={"caption": "json.c"}), 0)
    faults = column(list(reader.batches(Share(6, 0, 1, 0, 1))), "fault")
    assert [bool(fault) for fault in faults].count(True) == 1


def test_the_batches_of_a_task_are_fetched_together(make):
    reader = make()
    list(reader.batches(Share(8, 0, 2, 0, 5)))
    assert reader.source.reads == [20]


@pytest.mark.parametrize("rows", [1, 5, 8, 30, 1000])
@pytest.mark.parametrize(("rank", "workers"), [(0, 1), (1, 2), (3, 4)])
def test_the_parts_of_a_share_are_the_share(make, rows, rank, workers):
    order, share = make(count=50).order, Share(8, rank, workers, 3, 40)
    parts = list(cut(share, order, rows))
    covered = [row for part in parts for row in range(part.start, part.stop)]
    assert covered == list(range(3 * share.local, 40 * share.local))
    assert all(0 < part.stop - part.start <= rows for part in parts)
    positions = [p for part in parts for a, b in part.batches() for p in range(a, b)]
    assert positions == [p for batch in range(3, 40) for p in range(*share.positions(batch))]


def test_one_workers_parts_end_with_windows_so_that_each_byte_is_fetched_once(make):
    order = make(count=48).order  # windows of 8 samples
    parts = list(cut(Share(6, 0, 1, 0, 24), order, 20))
    assert [(part.start, part.stop) for part in parts][:3] == [(0, 16), (16, 32), (32, 48)]


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 200))
def test_rows_and_positions_are_each_others_inverse(workers, local, row):
    for rank in range(workers):
        share = Share(workers * local, rank, workers, 0, 100)
        position = share.position(row)
        assert share.row(position) == row
        assert share.positions(row // local)[0] <= position < share.positions(row // local)[1]
        # Of a position that is another worker's, the next row of this one.
        after = next(p for p in range(position, position + 2 * share.global_batch) if p != position)
        assert share.row(after) in (row, row + 1)


@pytest.mark.parametrize("threads", [2, 5])
def test_the_number_of_threads_changes_nothing(make, threads):
    rows = Rows(Share(20, 0, 1, 0, 3), 0, 60)
    reader = make(bad=frozenset({0, 3, 4, 11, 19}))
    alone, together = list(reader.read(rows)), list(reader.read(rows, threads))
    assert len(alone) == 3
    assert all(a.equals(b) for a, b in zip(alone, together, strict=True))
    assert any(column(together, "fault"))


@pytest.mark.parametrize("threads", [1, 3])
@given(batches=st.integers(1, 9), start=st.integers(0, 39), count=st.integers(0, 60))
def test_blocks_are_the_batches_one_after_the_other(make, threads, batches, start, count):
    share = Share(8, 0, 1, 0, 40)
    rows = Rows(share, start, start + count)
    bad = frozenset({0, 3, 11})
    expected = list(make(bad=bad).read(rows))
    steps = list(make(bad=bad).blocks(rows, batches, threads))
    assert len(steps) == len(expected)  # one a batch, whether or not it ends a block
    ends = [at for at, table in enumerate(steps, 1) if table is not None]
    assert ends == [*range(batches, len(steps), batches), *([len(steps)] if steps else [])]
    found = [table for table in steps if table is not None]
    assert all(table["image"].num_chunks == 1 for table in found)  # nothing to put together
    if found:
        assert pa.concat_tables(found).equals(pa.concat_tables(expected))


@pytest.mark.parametrize(("threads", "here"), [(1, True), (2, False)])
def test_one_thread_is_the_callers_own(make, monkeypatch, threads, here):
    reader, used = make(), set()
    fill = reader._decode.fill

    def noted(*args):
        used.add(threading.get_ident())
        return fill(*args)

    monkeypatch.setattr(reader._decode, "fill", noted)
    list(reader.read(Rows(Share(20, 0, 1, 0, 3), 0, 60), threads))
    assert (used == {threading.get_ident()}) == here


def test_decoding_is_lazy_so_that_the_first_batch_comes_early(make, monkeypatch):
    reader = make()
    decoded: list[str] = []
    fill = reader._decode.fill
    monkeypatch.setattr(
        reader._decode, "fill", lambda raw, *rest: decoded.append(raw.key) or fill(raw, *rest)
    )
    tables = reader.batches(Share(4, 0, 1, 0, 5))
    next(tables)
    assert len(decoded) == 4


def test_a_reader_pickles_after_use():
    reader = Reader(open_source(Synthetic.Config(samples=10, size=SIZE)), data(), 1)
    share = Share(4, 0, 1, 0, 4)
    before = list(reader.batches(share))
    after = list(pickle.loads(pickle.dumps(reader)).batches(share))
    assert all(a.equals(b) for a, b in zip(before, after, strict=True))


def test_a_source_is_opened_by_its_config():
    source = open_source(Synthetic.Config(samples=3, size=SIZE), fallback="unused")
    assert list(source.parts) == [Part(3)]
