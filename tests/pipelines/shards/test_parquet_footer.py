from __future__ import annotations

import io
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.shards.bounded import FAULTS, read_bounded
from pipelines.shards.entries import SCHEMA
from pipelines.shards.parquet_footer import NUMBER, TEXT, read_chunks


@pytest.fixture
def data() -> bytes:
    rows = 3000
    numbers = list(range(rows))
    lists = [[["txt", "jpg"]] * rows, [[n, n] for n in numbers], [[]] * rows]
    table = pa.table([[f"{n:09d}" for n in numbers], numbers, numbers, *lists], schema=SCHEMA)
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=1000, use_dictionary=["extensions.list.element"])
    return sink.getvalue()


def test_a_footer_says_what_pyarrow_reads_in_it(data):
    metadata = pq.read_metadata(io.BytesIO(data))
    rows, chunks = read_chunks(data)
    assert rows == metadata.num_rows == 3000
    groups = [metadata.row_group(number) for number in range(3)]
    expected = [group.column(number) for group in groups for number in range(6)]
    assert [(".".join(c.path), c.values, c.size, c.repeats) for c in chunks] == [
        (c.path_in_schema, c.num_values, c.total_uncompressed_size, c.has_dictionary_page)
        for c in expected
    ]
    assert [c.kind for c in chunks] == [TEXT, NUMBER, NUMBER, TEXT, NUMBER, NUMBER] * 3
    assert len({c.repeats for c in chunks}) == 2


@pytest.mark.parametrize("size", [0, 3, 4, 8, 12, 500])
def test_what_is_cut_off_has_no_footer(data, size):
    for cut in (data[:size], data[len(data) - size :]):
        with pytest.raises(FAULTS):
            read_chunks(cut)


def test_damage_anywhere_in_a_footer_is_read_or_an_error_and_ends_no_process(data):
    """pyarrow's own way to a column of a damaged footer is the end of the process."""
    chance = random.Random(0)
    length = int.from_bytes(data[-8:-4], "little") + 8
    faults = 0
    for _ in range(1000):
        damaged = bytearray(data)
        for _ in range(chance.randrange(1, 4)):
            damaged[-chance.randrange(1, length)] = chance.randrange(256)
        try:
            read_bounded(bytes(damaged), SCHEMA.names, 3000, 1 << 20)
        except FAULTS:
            faults += 1
    assert faults > 100
