"""Samples that could not be read: shard, key and reason, as a Parquet file."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.core import DataError
from pipelines.shards import storage

SCHEMA = pa.schema([("shard", pa.string()), ("key", pa.string()), ("reason", pa.string())])


def write_quarantine(url: str, faults: Iterable[Mapping[str, Any]]) -> int:
    """Write the distinct faults, added to those already in the file.

    Returns:
        How many samples the file holds.
    """
    known = read_quarantine(url)
    merged = {
        (f["shard"], f["key"]): {"shard": f["shard"], "key": f["key"], "reason": f["reason"]}
        for f in [*known, *faults]
    }
    if len(merged) > len(known):
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(list(merged.values()), schema=SCHEMA), sink)
        storage.write_atomic(url, sink.getvalue())
    return len(merged)


def read_quarantine(url: str) -> list[dict[str, str]]:
    """Read a quarantine file; empty where there is none.

    Raises:
        DataError: It is damaged.
    """
    if not storage.exists(url):
        return []
    try:
        table = pq.read_table(io.BytesIO(storage.read_bytes(url))).select(SCHEMA.names)
        rows: list[dict[str, str]] = table.cast(SCHEMA).to_pylist()
    except (pa.ArrowException, OSError, KeyError, ValueError):
        raise DataError(f"{url}: damaged; delete it and run again") from None
    return rows
