"""The index: the shards of a data set with their digests, and where each sample lies.

One small Parquet table lists the shards; one more for each shard, its entries,
is read when a sample of it is. So opening costs what the shards cost, however
many samples they hold, and a refresh scans only shards that are new.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.core import DataError, StorageError
from pipelines.core.recent import Recent
from pipelines.core.source import Fault
from pipelines.shards import storage
from pipelines.shards.entries import (
    Shard,
    Spans,
    read_entries,
    read_keys,
    read_spans,
    scan_shard,
    spans_of,
    write_entries,
)
from pipelines.shards.index_table import SCHEMA, VERSION, believed, entries_name, read_index

_FOLDER = "_eagleray"
_KEPT = 60.0  # seconds of scanning after which what is known so far is kept
_SPANS = 64 << 20  # bytes of spans that a reader remembers: four million samples
Listed = tuple[str, str]
"""URL and stamp of a shard."""
Scanned = tuple[Shard, pa.Table | None]
"""A shard, with its entries where they were not written to a file."""
Scan = Callable[[Sequence[Listed], str], Iterable[Scanned]]
"""Scans shards in any order; writes their entries to a folder if it is given one."""


class Index:
    """All samples of a data set, in shard order: sample numbers count through them. Pickles.

    Args:
        shards: One row a shard, in order (``SCHEMA``).
        held: Entries kept in memory, by shard number: those that no file holds.
    """

    def __init__(self, shards: pa.Table, held: Mapping[int, pa.Table] | None = None):
        self.shards = shards
        self._held = dict(held or {})
        ends = np.cumsum(shards["samples"].to_numpy())
        self._starts = np.concatenate([[0], ends]).astype(np.int64)
        self._recent: Recent[Spans] = Recent(_SPANS, span_bytes)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @cached_property
    def digest(self) -> str:
        """Digest of the data set's content: names and digests of all shards, in order."""
        names = [url.rpartition("/")[2] for url in self.shards["url"].to_pylist()]
        pairs = list(zip(names, self.shards["sha256"].to_pylist(), strict=True))
        return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()

    @property
    def faults(self) -> list[Fault]:
        """Shards whose reading stopped early, and why."""
        damaged = self.shards.filter(pc.not_equal(self.shards["fault"], ""))
        rows = damaged.select(["url", "fault"]).to_pylist()
        return [Fault(row["url"], "", row["fault"]) for row in rows]

    def shard(self, number: int) -> Shard:
        """One shard."""
        return Shard(**self.shards.slice(number, 1).to_pylist()[0])

    def url(self, number: int) -> str:
        """Where a shard is."""
        return str(self.shards["url"][number].as_py())

    def locate(self, samples: npt.NDArray[np.int64]) -> tuple[Spans, Spans]:
        """Shard number of each sample, and its place there. [K] int64, twice."""
        shards = np.searchsorted(self._starts, samples, side="right") - 1
        return shards, samples - self._starts[shards]

    def first(self, shard: int) -> int:
        """Number of a shard's first sample."""
        return int(self._starts[shard])

    def spans(self, shard: int) -> Spans:
        """First byte, and the byte after the last, of every sample of a shard. [2, N] int64."""

        def load() -> Spans:
            held = self._held.get(shard)
            return read_spans(self.shard(shard)) if held is None else spans_of(held)

        return self._recent.get(shard, load)

    def entries(self, shard: int) -> pa.Table:
        """Key, byte ranges and members of every sample of a shard."""
        held = self._held.get(shard)
        return read_entries(self.shard(shard)) if held is None else held

    def keys(self, shard: int) -> pa.ChunkedArray:
        """Keys of a shard's samples."""
        held = self._held.get(shard)
        return read_keys(self.shard(shard)) if held is None else held["key"]

    def to_bytes(self) -> bytes:
        """Serialise the table of shards as Parquet."""
        table = self.shards.replace_schema_metadata({"eagleray": json.dumps({"version": VERSION})})
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd", use_dictionary=["fault"])
        return sink.getvalue()


def span_bytes(spans: Spans) -> int:
    """Bytes of spans."""
    return int(spans.nbytes)


def scan_here(listed: Sequence[Listed], folder: str) -> Iterable[Scanned]:
    """Scan shards one after the other in this process."""
    return (scan_into(url, stamp, folder) for url, stamp in listed)


def scan_into(url: str, stamp: str, folder: str) -> Scanned:
    """Scan a shard and write its entries to a folder, or return them where there is none."""
    shard, table = scan_shard(url, stamp)
    if not folder:
        return shard, table
    place = storage.join(folder, entries_name(shard.sha256))
    write_entries(place, table)
    return replace(shard, entries=place), None


def open_index(pattern: str, fallback: str | None = None, scan: Scan = scan_here) -> Index:
    """Load the index of a data set, scanning shards that are new or have changed.

    It is kept in ``_eagleray/`` beside the shards, or, where that place is
    read-only or refused, under ``fallback``. Of shipped ones, of which each node has
    copies of its own, it is kept in memory.

    Args:
        pattern: Brace and glob pattern of the shards.
        fallback: A folder for the index of a read-only data set; None keeps it in memory.
        scan: How to scan the shards that are new.

    Raises:
        DataError: The shards hold no sample.
        StorageError: They cannot be listed or read.
    """
    listed = storage.listing(pattern)
    if pattern.startswith(storage.SHIPPED):
        return _in_memory(pattern, tuple(listed))
    name = f"index{VERSION}-{hashlib.sha256(pattern.encode()).hexdigest()[:12]}.parquet"
    beside = storage.join(listed[0][0].rpartition("/")[0], _FOLDER)
    folders = [beside, *([storage.join(fallback, _FOLDER)] if fallback else [])]
    kept = {f: _kept(storage.join(f, name), len(listed), f == beside) for f in folders}
    loaded = [believed(t, f, folders) for f, t in kept.items() if t is not None]
    for table in loaded:
        if _describes(table, listed):
            return _checked(Index(table), pattern)
    known = {shard["url"]: Shard(**shard) for table in loaded for shard in table.to_pylist()}
    return _checked(_refresh(listed, known, folders, name, scan), pattern)


@lru_cache(maxsize=16)
def _in_memory(pattern: str, listed: tuple[Listed, ...]) -> Index:
    """Of shipped tars, which evaluations and tests open often."""
    return _checked(_refresh(listed, {}, (), "", scan_here), pattern)


def _kept(place: str, shards: int, foreign: bool) -> pa.Table | None:
    """The table that is kept there; None where there is none.

    Who may not list a bucket is refused what is not in it: where the folder is
    not the run's own, that is as good as no index. The shards have been found by then.
    """
    try:
        return read_index(place, shards) if storage.exists(place) else None
    except storage.RefusedError:
        if foreign:
            return None
        raise


def _describes(table: pa.Table, listed: Sequence[Listed]) -> bool:
    urls, stamps = zip(*listed, strict=True)
    return bool(
        table["url"].to_pylist() == list(urls) and table["stamp"].to_pylist() == list(stamps)
    )


def _refresh(
    listed: Sequence[Listed],
    known: Mapping[str, Shard],
    folders: Sequence[str],
    name: str,
    scan: Scan,
) -> Index:
    fresh = [(u, s) for u, s in dict.fromkeys(listed) if u not in known or known[u].stamp != s]
    folder = next((folder for folder in folders if _writable(folder)), "")
    have, held = dict(known), {}
    place = storage.join(folder, name) if folder else ""
    kept = time.monotonic()
    try:
        for shard, table in scan(fresh, folder):
            have[shard.url] = shard
            if table is not None:
                held[shard.url] = table
            if place and time.monotonic() - kept > _KEPT:
                _keep(listed, have, folders, place)
                kept = time.monotonic()
    except BaseException:
        if place and have != known:
            with contextlib.suppress(StorageError):  # the fault that ended it matters more
                _keep(listed, have, folders, place)
        raise
    index = _index(listed, have, held)
    if place:
        storage.write_atomic(place, index.to_bytes())
    return index


def _keep(
    listed: Sequence[Listed], have: Mapping[str, Shard], folders: Sequence[str], place: str
) -> None:
    """Keep what is known before all is, with what other processes have found out meanwhile."""
    stamps = dict(listed)
    table = _kept(place, len(listed), True)
    if table is not None:
        for shard in believed(table, place.rpartition("/")[0], folders).to_pylist():
            mine, other = have.get(shard["url"]), Shard(**shard)
            stamp = stamps.get(other.url)
            if other.stamp == stamp and (mine is None or mine.stamp != stamp):
                have = {**have, other.url: other}
    index = _index(listed, have, {})
    if table is None or not table.equals(index.shards):
        storage.write_atomic(place, index.to_bytes())


def _index(
    listed: Sequence[Listed], have: Mapping[str, Shard], held: Mapping[str, pa.Table]
) -> Index:
    """What is known of the listed shards: all, or while they are scanned those that have been."""
    known = [url for url, _ in listed if url in have]
    rows = [asdict(have[url]) for url in known]
    samples = {number: held[url] for number, url in enumerate(known) if url in held}
    return Index(pa.Table.from_pylist(rows, schema=SCHEMA), samples)


def _writable(folder: str) -> bool:
    try:
        storage.check_writable(folder)
    except StorageError:
        return False
    return True


def _checked(index: Index, pattern: str) -> Index:
    if not len(index):
        faults = index.faults
        reason = faults[0].reason if faults else "a tar of files named KEY.EXTENSION is needed"
        raise DataError(f"{pattern}: no sample in it; {reason}")
    return index
