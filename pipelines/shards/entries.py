"""Entries: where every sample of one shard lies in it, as a Parquet table."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.core import DataError
from pipelines.shards import storage
from pipelines.shards.bounded import FAULTS, read_bounded
from pipelines.shards.tar import TarMember, TarScanner

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("start", pa.int64()),
        ("stop", pa.int64()),
        ("extensions", pa.list_(pa.string())),
        ("offsets", pa.list_(pa.int64())),
        ("sizes", pa.list_(pa.int64())),
    ]
)
_REPEATED = ["extensions.list.element", "offsets.list.element", "sizes.list.element"]
# Names and numbers of members take fewer bytes than their headers, but for letters that are not
# UTF-8: each becomes three bytes.
_BYTES = 4  # of entries, for each of the shard
_FLOOR = 1 << 16
Spans = npt.NDArray[np.int64]
"""First byte of each sample's first header, and the byte after its last padding. [2, N]"""


@dataclass(frozen=True)
class Shard:
    """One tar: where it is and what its scan found.

    Attributes:
        url: Where it is.
        stamp: Size and version, to see whether it changed.
        size: Bytes.
        sha256: Of its bytes.
        samples: How many.
        skipped: Members that belong to no sample, such as ``README``.
        fault: Why its reading stopped early; empty where it did not.
        entries: URL of its entries; empty where they are kept in memory.
    """

    url: str
    stamp: str
    size: int
    sha256: str
    samples: int
    skipped: int
    fault: str
    entries: str = ""


def scan_shard(url: str, stamp: str) -> tuple[Shard, pa.Table]:
    """Read one tar and list its samples.

    A sample is a run of neighbouring members with one key; a member whose
    extension the sample already has begins the next one.
    """
    with storage.explained(url), storage.open_read(url) as stream:
        scanner = TarScanner(stream)
        skipped: list[str] = []
        samples = list(_samples(scanner, skipped))
    table = pa.table(
        [
            [members[0].key for members in samples],
            [members[0].start for members in samples],
            [members[-1].stop for members in samples],
            [[m.extension for m in members] for members in samples],
            [[m.offset for m in members] for members in samples],
            [[m.size for m in members] for members in samples],
        ],
        schema=SCHEMA,
    )
    fault = scanner.fault or ""
    return (
        Shard(url, stamp, scanner.size, scanner.digest, len(samples), len(skipped), fault),
        table,
    )


def _samples(members: Iterable[TarMember], skipped: list[str]) -> Iterator[Sequence[TarMember]]:
    group: list[TarMember] = []
    for member in members:
        if not member.extension:
            skipped.append(member.name)
            continue
        extensions = {held.extension for held in group}
        if group and (member.key != group[0].key or member.extension in extensions):
            yield group
            group = []
        group.append(member)
    if group:
        yield group


def write_entries(url: str, table: pa.Table) -> None:
    """Write a shard's entries, whole or not at all."""
    sink = io.BytesIO()
    # What came in a dictionary is read as one: that takes long for keys, which all differ.
    pq.write_table(table, sink, compression="zstd", use_dictionary=_REPEATED)
    storage.write_atomic(url, sink.getvalue())


def read_entries(shard: Shard) -> pa.Table:
    """Read a shard's entries.

    Raises:
        DataError: The file is damaged, or not of this shard.
    """
    return _read(shard, SCHEMA.names)


def read_spans(shard: Shard) -> Spans:
    """Read only where a shard's samples start and stop.

    Raises:
        DataError: The file is damaged, or not of this shard.
    """
    return spans_of(_read(shard, ["start", "stop"]))


def read_keys(shard: Shard) -> pa.ChunkedArray:
    """Read only the keys of a shard's samples.

    Raises:
        DataError: The file is damaged, or not of this shard.
    """
    return _read(shard, ["key"])["key"]


def spans_of(table: pa.Table) -> Spans:
    """Where the samples of a table start and stop. [2, N] int64."""
    return np.stack([table["start"].to_numpy(), table["stop"].to_numpy()])


def _read(shard: Shard, columns: list[str]) -> pa.Table:
    data = storage.read_bytes(shard.entries)
    try:
        table = read_bounded(data, columns, shard.samples, _BYTES * shard.size + _FLOOR)
        table = table.cast(pa.schema([SCHEMA.field(name) for name in columns])).combine_chunks()
        _check(table, shard)
    except FAULTS:
        raise DataError(
            f"{shard.entries}: damaged; delete the folder it is in and run again"
        ) from None
    return table


def _check(table: pa.Table, shard: Shard) -> None:
    if table.num_rows != shard.samples:
        raise ValueError("another number of samples")
    for column in table.columns:
        values = pc.list_flatten(column) if pa.types.is_list(column.type) else column
        if column.null_count or values.null_count:
            raise ValueError("a value is missing")
    if "start" in table.column_names and table.num_rows:
        starts, stops = spans_of(table)
        if starts.min() < 0 or stops.max() > shard.size or not (starts < stops).all():
            raise ValueError("a sample outside its shard")
