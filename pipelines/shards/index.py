"""The index: shard, key, byte range and members of every sample, with the digest of every shard."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.core import DataError, StorageError
from pipelines.shards import storage
from pipelines.shards.tar import TarMember, TarScanner

_VERSION = 1
SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),
        ("key", pa.string()),
        ("extensions", pa.list_(pa.string())),
        ("offsets", pa.list_(pa.int64())),
        ("sizes", pa.list_(pa.int64())),
    ]
)


@dataclass(frozen=True)
class Shard:
    """One tar: where it is, how big, its digest, how many samples, what stopped its reading."""

    url: str
    stamp: str
    size: int
    sha256: str
    samples: int
    fault: str | None = None


@dataclass(frozen=True)
class Entry:
    """One sample: its shard, its key, and (extension, offset, size) of each member."""

    shard: int
    key: str
    members: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Index:
    """All samples of a data set, in shard order. Sample numbers are row numbers."""

    shards: tuple[Shard, ...]
    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def digest(self) -> str:
        """Digest of the data set's content: names and digests of all shards, in order."""
        names = [[shard.url.rpartition("/")[2], shard.sha256] for shard in self.shards]
        return hashlib.sha256(json.dumps(names).encode()).hexdigest()

    def chunks(self, size: int) -> npt.NDArray[np.int64]:
        """Sample counts of the chunks: runs of at most ``size`` samples of one shard."""
        counts: list[int] = []
        for shard in self.shards:
            full, rest = divmod(shard.samples, size)
            counts += [size] * full + ([rest] if rest else [])
        return np.asarray(counts, dtype=np.int64)

    def entries(self, samples: npt.NDArray[np.int64]) -> list[Entry]:
        """Look up samples by number, in the order asked."""
        rows = self.table.take(pa.array(samples)).to_pydict()
        return [
            Entry(shard, key, tuple(zip(extensions, offsets, sizes, strict=True)))
            for shard, key, extensions, offsets, sizes in zip(*rows.values(), strict=True)
        ]

    def to_bytes(self) -> bytes:
        """Serialise as Parquet."""
        meta = {"version": _VERSION, "shards": [asdict(shard) for shard in self.shards]}
        table = self.table.replace_schema_metadata({"eagleray": json.dumps(meta)})
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        return sink.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Index:
        """Read a serialised index.

        Raises:
            DataError: Not an index of this version.
        """
        try:
            table = pq.read_table(io.BytesIO(data)).combine_chunks()
            meta: dict[str, Any] = json.loads((table.schema.metadata or {})[b"eagleray"])
            version = meta["version"]
            shards = tuple(Shard(**shard) for shard in meta["shards"])
            table = table.replace_schema_metadata(None).cast(SCHEMA)
            samples = sum(shard.samples for shard in shards)
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
            raise DataError(f"{where}: not an index; delete it and run again") from None
        if version != _VERSION or samples != table.num_rows:
            raise DataError(f"{where}: an index of another version; delete it and run again")
        return cls(shards, table)


def scan_shard(url: str) -> tuple[Shard, pa.Table]:
    """Read one tar and list its samples: neighbouring members with the same key."""
    stamp = storage.stamp(url)
    keys: list[str] = []
    columns: tuple[list[list[str]], list[list[int]], list[list[int]]] = ([], [], [])
    with storage.explained(url), storage.open_read(url) as stream:
        scanner = TarScanner(stream)
        named = (member for member in scanner if member.extension)
        for key, group in itertools.groupby(named, key=lambda member: member.key):
            members: list[TarMember] = list(group)
            keys.append(key)
            columns[0].append([member.extension for member in members])
            columns[1].append([member.offset for member in members])
            columns[2].append([member.size for member in members])
    shard = Shard(url, stamp, scanner.size, scanner.digest, len(keys), scanner.fault)
    number = pa.array(np.zeros(len(keys), dtype=np.int32))
    return shard, pa.table([number, keys, *columns], schema=SCHEMA)


Scan = Callable[[Sequence[str]], Iterable[tuple[Shard, pa.Table]]]


def scan_here(urls: Sequence[str]) -> Iterable[tuple[Shard, pa.Table]]:
    """Scan shards one after the other in this process."""
    return map(scan_shard, urls)


def build_index(urls: Sequence[str], scan: Scan = scan_here, known: Index | None = None) -> Index:
    """Index shards, scanning only those that ``known`` does not have unchanged.

    Raises:
        DataError: The shards hold no sample.
    """
    have = _split(known) if known else {}
    fresh = [url for url in urls if url not in have or have[url][0].stamp != storage.stamp(url)]
    have |= {shard.url: (shard, table) for shard, table in scan(fresh)}
    shards, tables = [], []
    for number, url in enumerate(urls):
        shard, table = have[url]
        shards.append(shard)
        column = pa.array(np.full(table.num_rows, number, dtype=np.int32))
        tables.append(table.set_column(0, "shard", column))
    table = pa.concat_tables(tables).combine_chunks().cast(SCHEMA)
    if not table.num_rows:
        raise DataError(f"{_shown(urls)}: no sample in it; {_reason(shards)}")
    return Index(tuple(shards), table)


def _split(index: Index) -> dict[str, tuple[Shard, pa.Table]]:
    starts = np.cumsum([0, *(shard.samples for shard in index.shards)])
    return {
        shard.url: (shard, index.table.slice(int(start), shard.samples))
        for shard, start in zip(index.shards, starts, strict=False)
    }


def _shown(urls: Sequence[str]) -> str:
    return urls[0] if len(urls) == 1 else f"{urls[0]} and {len(urls) - 1} more"


def _reason(shards: Sequence[Shard]) -> str:
    faults = [shard.fault for shard in shards if shard.fault]
    return faults[0] if faults else "a tar of files named KEY.EXTENSION is needed"


def open_index(pattern: str, fallback: str | None = None, scan: Scan = scan_here) -> Index:
    """Load the index of a data set, building or refreshing it where needed.

    It is kept beside the shards, or, where that place is read-only, under ``fallback``.

    Args:
        pattern: Brace and glob pattern of the shards.
        fallback: A folder for the index of a read-only data set; None keeps it in memory.
        scan: How to scan the shards that are new.
    """
    urls = storage.expand(pattern)
    name = f"index-{hashlib.sha256(pattern.encode()).hexdigest()[:12]}.parquet"
    places = [storage.join(urls[0].rpartition("/")[0], "_eagleray", name)]
    places += [storage.join(fallback, name)] if fallback else []
    known = next((index for place in places if (index := _load(place)) is not None), None)
    index = build_index(urls, scan, known)
    if known is None or index.shards != known.shards:
        _keep(index, places)
    return index


def _load(place: str) -> Index | None:
    return Index.from_bytes(storage.read_bytes(place), place) if storage.exists(place) else None


def _keep(index: Index, places: Sequence[str]) -> None:
    for place in places:
        try:
            storage.write_atomic(place, index.to_bytes())
        except StorageError:
            continue  # a read-only bucket: the next place will do
        return
