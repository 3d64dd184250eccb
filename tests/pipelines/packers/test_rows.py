from __future__ import annotations

import io
import random
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core import DataError, UserError
from pipelines.packers import _rows
from pipelines.packers._rows import BATCH, Rows, batches, cells, one_schema, schema_of


def parquet(table: dict[str, list[object]], **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(table), sink, **options)
    return sink.getvalue()


def rows_of(*sizes: int) -> tuple[Rows, list[int]]:
    """Rows over batches of some sizes, and how often they were started."""
    starts: list[int] = []

    def start() -> _rows.Batches:
        starts.append(1)
        at = 0
        for size in sizes:
            yield pa.RecordBatch.from_pydict({"n": list(range(at, at + size))})
            at += size

    return Rows(start), starts


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.randoms())
def test_rows_are_the_same_in_any_order(sizes, chance: random.Random):
    rows, _ = rows_of(*sizes)
    order = list(range(sum(sizes)))
    chance.shuffle(order)
    assert [rows[number]["n"] for number in order] == order


def test_rising_rows_are_read_once_and_others_twice():
    rows, starts = rows_of(3, 1, 4)
    assert [rows[number]["n"] for number in (0, 2, 2, 5, 7)] == [0, 2, 2, 5, 7]
    assert len(starts) == 1
    assert [rows[number]["n"] for number in (1, 7, 0, 3)] == [1, 7, 0, 3]
    assert len(starts) == 2


def test_the_copy_has_no_name_left(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    rows, _ = rows_of(2, 2)
    assert [rows[number]["n"] for number in (3, 0, 2)] == [3, 0, 2]
    assert list(tmp_path.iterdir()) == []


def test_a_table_is_read_a_few_rows_at_a_time_wherever_it_is(memory, tmp_path, put):
    numbers = list(range(3 * BATCH + 5))
    text = "n,m\n" + "".join(f"{n},x\n" for n in numbers)
    files = {
        "a.csv": text.encode(),
        "a.tsv": text.replace(",", "\t").encode(),
        "a.parquet": parquet({"n": [str(n) for n in numbers], "m": ["x"] * len(numbers)}),
    }
    for url in (put(memory, files), put(tmp_path, files)):
        for name in files:
            found = list(batches(f"{url}/{name}", ["n"]))
            assert all(batch.num_rows <= BATCH and batch.schema.names == ["n"] for batch in found)
            assert [int(n) for b in found for n in b.column(0).to_pylist()] == numbers
            assert len(list(cells(f"{url}/{name}", None))) == len(numbers)
            assert list(cells(f"{url}/{name}", "m")) == ["x"] * len(numbers)


def test_csv_cells_are_text_and_may_hold_what_separates_them(tmp_path, put):
    text = '\ufeffa,b\r\n"1, ""one""\ntwo",007\r\n\r\nshort\r\n,\r\n'
    url = put(tmp_path, {"t.csv": text.encode()}) + "/t.csv"
    (batch,) = batches(url, ["b", "a"])
    assert batch.to_pylist() == [
        {"b": "007", "a": '1, "one"\ntwo'},
        {"b": None, "a": None},  # not as many cells as columns
        {"b": "", "a": ""},
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_quote_in_a_tsv_file_is_a_letter(tmp_path, put, end):
    cells = ['"big', '5" nail', 'small"', '"whole"', '""', "a, b"]
    rows = ["n\tsaid", *(f"{n}\t{cell}" for n, cell in enumerate(cells))]
    text = "".join(row + end for row in rows)
    url = put(tmp_path, {"t.TSV": text.encode()}) + "/t.TSV"
    (batch,) = batches(url, ["n", "said"])
    assert batch.column(0).to_pylist() == [str(n) for n in range(len(cells))]
    assert batch.column(1).to_pylist() == cells


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it has no columns"),
        (b"a,a\n1,2\n", "two columns are called 'a'"),
        (b"a,b\n1,\xff\n", "line 2: not UTF-8"),
        (b"a,b\n" + 1000 * b"1,2\n" + b"\xe9,1\n" + 9 * b"1,2\n", "line 1002: not UTF-8"),
        (b'a,b\n1,"open', "line 3: unexpected end of data"),
        (b"a,b\n1," + b"x" * 200_000, "line 3: field larger than field limit"),
        (b"a,b\n" + b"," * 2_000_000, "line 2: longer than 1048576 characters"),
    ],
)
def test_a_damaged_csv_file_is_one_line(tmp_path, put, data, message):
    url = put(tmp_path, {"t.csv": data}) + "/t.csv"
    with pytest.raises(DataError) as caught:
        list(batches(url, schema_of(url).names))
    assert str(caught.value).startswith(f"{url}: {message}")


def test_a_damaged_parquet_file_is_one_line(tmp_path, put):
    whole = parquet({"a": [f"{n}" * 50 for n in range(500)]}, compression="none")
    chance = random.Random(0)
    refused = []
    for turn in range(60):
        data = bytearray(whole)
        for _ in range(20):
            data[chance.randrange(len(data))] ^= 255
        if turn % 4 == 0:
            del data[chance.randrange(len(data)) :]
        url = put(tmp_path, {"t.parquet": bytes(data)}) + "/t.parquet"
        try:
            list(batches(url, ["a"]))
        except DataError as error:
            refused.append(str(error))
    assert len(refused) > 30
    assert all(text.startswith(f"{url}: ") and "\n" not in text for text in refused)


def test_tables_packed_together_have_equal_columns(tmp_path, put):
    files = {"a.parquet": parquet({"n": [1]}), "b.parquet": parquet({"n": ["1"]})}
    url = Path(put(tmp_path, files))
    assert one_schema([f"{url}/a.parquet"] * 2).names == ["n"]
    with pytest.raises(UserError, match=r"b\.parquet: its columns are not those of .*a\.parquet"):
        one_schema([f"{url}/a.parquet", f"{url}/b.parquet"])


def test_tables_with_other_dictionaries_and_metadata_are_read_in_any_order(tmp_path, put):
    files = {}
    for number, words in enumerate(["ab", "cd"]):
        table = pa.table({"n": pa.array(list(words)).dictionary_encode()})
        sink = io.BytesIO()
        pq.write_table(table.replace_schema_metadata({"by": words}), sink, row_group_size=1)
        files[f"{number}.parquet"] = sink.getvalue()
    urls = [f"{put(tmp_path, files)}/{name}" for name in files]
    assert one_schema(urls).names == ["n"]
    rows = Rows(lambda: (batch for url in urls for batch in batches(url, ["n"])))
    assert [rows[number]["n"] for number in (3, 0, 2, 1)] == ["d", "a", "c", "b"]


@pytest.mark.parametrize("groups", [1, 40])
def test_of_a_large_table_little_is_in_memory(tmp_path, groups):
    chance = np.random.default_rng(0)
    path, rows, size = tmp_path / "t.parquet", 2560, 16 << 10
    images = pa.array([chance.bytes(size) for _ in range(rows)])
    options = {"compression": "none", "use_dictionary": False, "write_batch_size": 64}
    pq.write_table(pa.table({"image": images}), path, row_group_size=rows // groups, **options)
    before, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    del images
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        assert sum(batch.num_rows for batch in batches(str(path), ["image"])) == rows
        most = pool.max_memory() + tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(before)
    assert most < 12 << 20  # of 40 MiB


def test_text_that_is_none_is_a_cell_that_is_missing(tmp_path):
    column = pa.StringArray.from_buffers(
        3, pa.py_buffer(struct.pack("<4i", 0, 1, 2, 3)), pa.py_buffer(b"a\xffc")
    )
    pq.write_table(pa.table({"key": column}), tmp_path / "t.parquet")
    assert list(cells(f"{tmp_path}/t.parquet", "key")) == ["a", None, "c"]


def test_a_table_that_is_replaced_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "t.parquet"
    for number in (0, 1):
        data = parquet({"n": [number] * 1000}, row_group_size=100)
        if not number:
            path.write_bytes(data)
            rows = batches(str(path), ["n"])
            next(rows)
    other = tmp_path / "other"
    other.write_bytes(data)
    other.replace(path)
    with pytest.raises(DataError, match="changed while it was read; run again"):
        list(rows)
