"""WebDataset tars at any fsspec URL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pipelines import core
from pipelines.core.source import RawSample
from pipelines.shards import storage
from pipelines.shards.index import Entry, Index, Scan, open_index, scan_here

_GAP = 64 * 1024  # closer ranges are read as one: a request costs more than these bytes


class WebDataset:
    """Image, text and other members of plain tars, read by byte range."""

    class Config(core.Config):
        """Where the tars are: a URL with ``{0..9}`` braces or ``*`` globs."""

        url: str

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

    def chunks(self, size: int) -> npt.NDArray[np.int64]:
        """Sample counts of runs of at most ``size`` samples of one shard."""
        return self.index.chunks(size)

    def read(self, samples: npt.NDArray[np.int64]) -> Iterator[RawSample]:
        """Read samples in the order asked; neighbouring byte ranges are read as one."""
        entries = self.index.entries(samples)
        members = self._fetch(entries)
        for place, entry in enumerate(entries):
            yield RawSample(self.index.shards[entry.shard].url, entry.key, members.pop(place))

    def _fetch(self, entries: list[Entry]) -> dict[int, dict[str, bytes]]:
        places: dict[int, list[int]] = defaultdict(list)
        for place, entry in enumerate(entries):
            places[entry.shard].append(place)
        found: dict[int, dict[str, bytes]] = {}
        for shard, wanted in places.items():
            spans = {place: _span(entries[place]) for place in wanted}
            ranges = merge(sorted(set(spans.values())))
            parts = storage.read_ranges(self.index.shards[shard].url, ranges)
            starts = np.array([start for start, _ in ranges])
            for place, (start, _) in spans.items():
                part = int(np.searchsorted(starts, start, side="right")) - 1
                base = ranges[part][0]
                found[place] = {
                    extension: parts[part][offset - base : offset - base + size]
                    for extension, offset, size in entries[place].members
                }
        return found


def _span(entry: Entry) -> tuple[int, int]:
    starts = [offset for _, offset, _ in entry.members]
    stops = [offset + size for _, offset, size in entry.members]
    return min(starts), max(stops)


def merge(spans: list[tuple[int, int]], gap: int = _GAP) -> list[tuple[int, int]]:
    """Join sorted byte ranges that overlap or lie closer than ``gap``."""
    merged: list[tuple[int, int]] = []
    for start, stop in spans:
        if merged and start - merged[-1][1] <= gap:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged
