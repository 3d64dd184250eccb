"""Parquet that others may have written: read only where it holds no more than it may."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.shards.parquet_footer import NUMBER, TEXT, read_chunks

FAULTS = (pa.ArrowException, OSError, LookupError, TypeError, ValueError)
"""What the reading of a damaged file raises."""


def read_bounded(data: bytes, columns: Sequence[str], rows: int, size: int) -> pa.Table:
    """Read columns of numbers, texts and lists of them; texts may come as dictionaries.

    A few bytes of Parquet can claim any number of rows, or one long text for
    each of them, so all of it is looked at before it is unpacked.

    Args:
        data: The file.
        columns: Names of the columns.
        rows: Most that it may have.
        size: Most bytes that these columns may take.

    Raises:
        ValueError: It has more, or columns of other kinds; or another one of ``FAULTS``.
    """
    claimed, chunks = read_chunks(data)
    wanted = [chunk for chunk in chunks if chunk.path[0] in columns]
    if any(chunk.kind not in (NUMBER, TEXT) for chunk in wanted):
        raise ValueError("columns of another kind")
    if claimed > rows:
        raise ValueError("too many rows")
    if sum(max(chunk.size, 8 * chunk.values) for chunk in wanted) > size:
        raise ValueError("too many bytes")
    # A dictionary holds a text that many rows have once; to make one of other texts takes long.
    texts = {".".join(chunk.path) for chunk in wanted if chunk.kind == TEXT and chunk.repeats}
    file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=list(texts))
    table = file.read(columns=list(columns)).select(list(columns))
    if sum(_unpacked(table)) > size:
        raise ValueError("too many bytes of text")
    return table


def _unpacked(table: pa.Table) -> Iterator[int]:
    """Bytes of the texts that stand in dictionaries, each as often as it is used."""
    for chunk in (chunk for column in table.columns for chunk in column.chunks):
        values = chunk.flatten() if pa.types.is_list(chunk.type) else chunk
        if pa.types.is_dictionary(values.type):
            lengths = pc.cast(pc.binary_length(values.dictionary), pa.int64())
            yield pc.sum(lengths.take(values.indices)).as_py() or 0
