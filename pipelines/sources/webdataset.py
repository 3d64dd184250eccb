"""WebDataset tars at any fsspec URL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines import core
from pipelines.ahead import Ahead
from pipelines.core.source import Fault, Part, RawSample
from pipelines.shards import storage
from pipelines.shards.index import Index, Scan, open_index, scan_here
from pipelines.shards.tar import LARGEST, TarFault, unpack
from pipelines.shards.url import Url

_GAP = 64 * 1024  # closer ranges are read as one: a request costs more than these bytes
_TOGETHER = 64 << 20  # bytes fetched together; three times as many are held
_SHARDS = 16  # read from at once

Numbers = npt.NDArray[np.int64]


class WebDataset:
    """Image, text, video, audio and other members of plain tars, read by byte range."""

    class Config(core.Config):
        """Where the tars are: a URL with ``{0..9}`` braces or ``*`` globs."""

        url: Url

    def __init__(self, config: Config, fallback: str | None = None, scan: Scan = scan_here):
        """Open the data set, indexing what is new.

        Args:
            config: Where the tars are.
            fallback: Folder for the index where the tars' own is read-only.
            scan: How to scan new shards: here, or by Ray tasks.
        """
        self.index: Index = open_index(config.url, fallback, scan)

    @property
    def digest(self) -> str:
        """Digest over names and content digests of all shards."""
        return self.index.digest

    @property
    def parts(self) -> Sequence[Part]:
        """All of it is one part."""
        return (Part(len(self.index)),)

    @property
    def shards(self) -> int:
        """How many tars."""
        return int(self.index.shards.num_rows)

    @property
    def faults(self) -> Sequence[Fault]:
        """Tars whose reading stopped early when they were indexed."""
        return self.index.faults

    def read(self, samples: Numbers) -> Iterator[RawSample]:
        """Read samples in the order asked, fetching the next ones while these are used."""
        shards, places = self.index.locate(samples)
        spans = self._spans(shards, places)
        groups = _groups(spans[1] - spans[0], _TOGETHER)
        fetched = (self._fetch(shards[g], places[g], spans[:, g]) for g in groups)
        for group in Ahead(fetched, depth=1) if len(groups) > 1 else fetched:
            yield from group

    def _spans(self, shards: Numbers, places: Numbers) -> Numbers:
        spans = np.empty((2, len(shards)), np.int64)
        for shard in np.unique(shards):
            here = shards == shard
            spans[:, here] = self.index.spans(int(shard))[:, places[here]]
        return spans

    def _fetch(self, shards: Numbers, places: Numbers, spans: Numbers) -> list[RawSample]:
        """Fetch samples together: neighbours as one range, ranges several in flight."""
        sizes = spans[1] - spans[0]
        faults = {int(p): f"{sizes[p]} bytes is too large" for p in np.flatnonzero(sizes > LARGEST)}
        wanted = np.flatnonzero(sizes <= LARGEST)
        wanted = wanted[np.lexsort((spans[0, wanted], shards[wanted]))]
        ranges = merge([(int(shards[w]), int(spans[0, w]), int(spans[1, w])) for w in wanted])
        urls = {shard: self.index.url(shard) for shard in map(int, np.unique(shards))}
        parts = [memoryview(part) for part in _read([(urls[s], a, b) for s, a, b in ranges])]
        anew = {shard: self._keys_where_written_anew(shard) for shard in urls}
        found: dict[int, RawSample] = {}
        part = 0
        for place in map(int, wanted):
            shard, start, stop = int(shards[place]), int(spans[0, place]), int(spans[1, place])
            while (shard, start) >= (ranges[part][0], ranges[part][2]):
                part += 1
            base = ranges[part][1]
            try:
                key, members = unpack(parts[part][start - base : stop - base])
            except TarFault as fault:
                faults[place] = f"the shard is not what was indexed ({fault})"
                continue
            keys = anew[shard]
            if keys is not None and keys[int(places[place])].as_py() != key:
                faults[place] = f"the shard is not what was indexed ({key} is in its place)"
            else:
                found[place] = RawSample(urls[shard], key, members)
        found.update(self._unreadable(shards, places, faults))
        return [found[place] for place in range(len(shards))]

    def _keys_where_written_anew(self, number: int) -> pa.ChunkedArray | None:
        """Keys of a shard that is another file than was indexed; None of the one that was.

        Other samples may lie within the same bounds, as texts do that each fill a block. On a
        disk, where asking costs nothing.
        """
        shard = self.index.shard(number)
        if not storage.is_local(storage.locate(shard.url)[0]):
            return None
        return None if storage.stamp(shard.url) == shard.stamp else self.index.keys(number)

    def _unreadable(
        self, shards: Numbers, places: Numbers, faults: Mapping[int, str]
    ) -> Iterator[tuple[int, RawSample]]:
        """What stands for samples that cannot be read, under the keys that the index has."""
        numbers = np.array(sorted(faults), np.int64)
        for shard in map(int, np.unique(shards[numbers])):  # the keys of one at a time in memory
            url, keys = self.index.url(shard), self.index.keys(shard)
            for number in map(int, numbers[shards[numbers] == shard]):
                key = keys[int(places[number])].as_py()
                yield number, RawSample(url, key, {}, faults[number])


def _read(ranges: Sequence[tuple[str, int, int]]) -> list[bytes]:
    """Read ranges of several files, in the order asked; on object stores of many files at once."""
    wanted: dict[str, list[int]] = {}
    for number, (url, _, _) in enumerate(ranges):
        wanted.setdefault(url, []).append(number)

    def read(url: str) -> list[bytes]:
        return storage.read_ranges(url, [ranges[number][1:] for number in wanted[url]])

    if not wanted or storage.is_local(storage.locate(ranges[0][0])[0]):
        parts = list(map(read, wanted))
    else:
        with ThreadPoolExecutor(min(_SHARDS, len(wanted))) as pool:
            parts = list(pool.map(read, wanted))
    # A pattern may name a shard twice, with others between: files are not in the order of ranges.
    places = (number for numbers in wanted.values() for number in numbers)
    found = dict(zip(places, (part for own in parts for part in own), strict=True))
    return [found[number] for number in range(len(ranges))]


def _groups(sizes: Numbers, limit: int) -> list[slice]:
    """Cut samples into runs of at most ``limit`` bytes, or of one sample."""
    cuts, held = [0], 0
    for place, size in enumerate(sizes.tolist()):
        if held and held + size > limit:
            cuts.append(place)
            held = 0
        held += size
    return [slice(a, b) for a, b in zip(cuts, [*cuts[1:], len(sizes)], strict=True) if b > a]


Range = tuple[int, int, int]
"""Shard, first byte, and the byte after the last."""


def merge(spans: Sequence[Range], gap: int = _GAP) -> list[Range]:
    """Join sorted byte ranges of a shard that overlap or lie closer than ``gap``."""
    merged: list[Range] = []
    for shard, start, stop in spans:
        if merged and shard == merged[-1][0] and start - merged[-1][2] <= gap:
            merged[-1] = (shard, merged[-1][1], max(stop, merged[-1][2]))
        else:
            merged.append((shard, start, stop))
    return merged
