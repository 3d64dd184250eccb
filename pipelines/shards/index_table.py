"""The table of shards as a file, and how far one is believed that lies beside foreign shards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.core import DataError, StorageError
from pipelines.shards import storage
from pipelines.shards.bounded import FAULTS, read_bounded
from pipelines.shards.tar import BLOCK

VERSION = 3
SCHEMA = pa.schema(
    [
        ("url", pa.string()),
        ("stamp", pa.string()),
        ("size", pa.int64()),
        ("sha256", pa.string()),
        ("samples", pa.int64()),
        ("skipped", pa.int64()),
        ("fault", pa.string()),
        ("entries", pa.string()),
    ]
)
_GONE = 100_000  # shards that a table may list beyond those that there are now
_ROW = 1024  # bytes of a row, on average: most are URLs
_LARGEST = 1 << 50  # bytes of a shard


def entries_name(sha256: str) -> str:
    """Name of a shard's entries: by content, so that patterns that overlap share them."""
    return f"{sha256[:32]}.parquet"


def read_index(url: str, shards: int = 0) -> pa.Table:
    """Read a table of shards.

    Args:
        url: The file.
        shards: How many there are now; a table with many more is none of them.

    Raises:
        DataError: Not an index of this version.
    """
    data = storage.read_bytes(url)
    rows = 2 * shards + _GONE
    try:
        kept = pq.read_metadata(pa.BufferReader(data)).metadata or {}
        meta: dict[str, Any] = json.loads(kept[b"eagleray"])
        table = None
        if meta["version"] == VERSION:
            found = read_bounded(data, SCHEMA.names, rows, rows * _ROW)
            table = found.replace_schema_metadata(None).cast(SCHEMA).combine_chunks()
            _check(table)
    except (*FAULTS, RecursionError):
        raise DataError(f"{url}: not an index; delete it and run again") from None
    if table is None:
        raise DataError(f"{url}: an index of another version; delete it and run again")
    return table


def _check(table: pa.Table) -> None:
    if any(column.null_count for column in table.columns):
        raise ValueError("a value is missing")
    sizes, samples = table["size"].to_numpy(), table["samples"].to_numpy()
    if ((sizes < 0) | (sizes > _LARGEST) | (samples < 0) | (samples > sizes // BLOCK)).any():
        raise ValueError("a shard of impossible size")
    if not pc.all(pc.match_substring_regex(table["sha256"], "^[0-9a-f]{64}$")).as_py():
        raise ValueError("a digest that is none")


def believed(table: pa.Table, folder: str, folders: Sequence[str]) -> pa.Table:
    """Leave out the shards of a table that have to be scanned anew.

    A table may name any place for a shard's entries, and whoever made the
    shards may have made the table: only their own name in one of the folders
    is ever opened. The shards are no larger than the listing says, since all
    that is read of their entries is measured by that.

    Args:
        table: Of shards.
        folder: Where it was found; a folder that was moved has its entries there.
        folders: All that this data set's index may lie in.
    """
    digests = pc.utf8_slice_codeunits(table["sha256"], 0, 32)
    names = pc.binary_join_element_wise(digests, "parquet", ".")
    places = [pc.binary_join_element_wise(place, names, "/") for place in folders]
    known = reduce(pc.or_, [pc.equal(table["entries"], place) for place in places])
    if not pc.all(known).as_py():
        moved = pc.is_in(names, pa.array(_names(folder), pa.string()))
        here = pc.binary_join_element_wise(folder, names, "/")
        entries = pc.if_else(known, table["entries"], here)
        table = table.set_column(SCHEMA.names.index("entries"), SCHEMA.field("entries"), entries)
        known = pc.or_(known, moved)
    listed = pc.struct_field(pc.extract_regex(table["stamp"], "^(?P<size>[0-9]{1,18}):"), "size")
    grown = pc.fill_null(pc.greater(table["size"], pc.cast(listed, pa.int64())), False)
    sound = pc.and_not(known, grown)
    return table if pc.all(sound).as_py() else table.filter(sound)


def _names(folder: str) -> Sequence[str]:
    try:
        return storage.names(folder)
    except StorageError:  # a bucket that may be read and not listed
        return []
