"""Samples that share a key: an exact count over a whole data set, in bounded memory.

Keys are compared by hashes of 64 bits, some of all hashes at a time where there
are many; then the strings are read of those whose hashes are equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.shards.index import Index

_TOGETHER = 1 << 24  # keys whose hashes are held at a time: 16 bytes each, and 8 to sort them
_CONFIRMED = 1 << 20  # keys whose strings are held at a time
_EXAMPLES = 10
_PLACES = 5

Numbers = npt.NDArray[np.int64]


@dataclass
class Repeated:
    """A key that several samples have.

    Attributes:
        key: The key.
        first: Number of the first sample that has it.
        samples: How many have it.
        shards: Numbers of the shards that hold them, in order; the first few.
        last: Number of the last shard so far.
        within: Samples whose own shard has the key before them.
    """

    key: str
    first: int
    samples: int = 0
    shards: list[int] = field(default_factory=list)
    last: int = -1
    within: int = 0

    def add(self, shard: int) -> None:
        """Count a sample; those of a shard come together."""
        self.samples += 1
        if shard == self.last:
            self.within += 1
        elif len(self.shards) < _PLACES:
            self.shards.append(shard)
        self.last = shard


class Keys:
    """The keys of a data set.

    Args:
        index: Its index.
    """

    def __init__(self, index: Index):
        self._index = index
        # A power of two, so that some bits of a hash say to which part it belongs.
        self.parts = 1 << (max(0, len(index) - 1) // _TOGETHER).bit_length()
        self._hashes: list[Numbers] = []
        self._numbers: list[Numbers] = []
        self._totals = {"keys": 0, "samples": 0, "within_shards": 0}
        self._examples: list[Repeated] = []

    def add(self, shard: int, entries: pa.Table, part: int) -> None:
        """Add the keys of a shard that belong to a part."""
        keys = entries["key"].to_pylist()
        hashes = np.fromiter(map(hash, keys), np.int64, len(keys))
        chosen = np.flatnonzero(hashes & (self.parts - 1) == part)
        self._hashes.append(hashes[chosen])
        self._numbers.append(chosen + self._index.first(shard))

    def settle(self) -> None:
        """Count what is repeated among the keys that were added since the last time."""
        for numbers in self._suspects():
            found = [one for one in self._confirmed(numbers) if one.samples > 1]
            self._totals["keys"] += len(found)
            self._totals["samples"] += sum(one.samples - 1 for one in found)
            self._totals["within_shards"] += sum(one.within for one in found)
            self._examples = sorted([*self._examples, *found], key=lambda one: one.first)
            del self._examples[_EXAMPLES:]

    def summary(self) -> dict[str, Any]:
        """Numbers of keys that several samples have, of samples that came too many, examples."""
        examples = [
            {"key": r.key, "samples": r.samples, "shards": [self._index.url(s) for s in r.shards]}
            for r in self._examples
        ]
        across = self._totals["samples"] - self._totals["within_shards"]
        return {**self._totals, "across_shards": across, "examples": examples}

    def _suspects(self) -> Iterator[Numbers]:
        """Samples with equal hashes, some at a time; all of one hash together."""
        hashes, numbers = np.concatenate(self._hashes), np.concatenate(self._numbers)
        self._hashes, self._numbers = [], []
        order = np.argsort(hashes, kind="stable")
        hashes, numbers = hashes[order], numbers[order]
        equal = hashes[1:] == hashes[:-1]
        held = np.zeros(len(hashes), bool)
        held[1:] |= equal
        held[:-1] |= equal
        hashes, numbers = hashes[held], numbers[held]
        while len(numbers):
            end = np.searchsorted(hashes, hashes[min(_CONFIRMED, len(hashes)) - 1], side="right")
            yield np.sort(numbers[:end])
            hashes, numbers = hashes[end:], numbers[end:]

    def _confirmed(self, numbers: Numbers) -> list[Repeated]:
        """Samples by their keys themselves."""
        found: dict[str, Repeated] = {}
        shards, places = self._index.locate(numbers)
        starts = np.flatnonzero(np.diff(shards, prepend=-1)).tolist()
        for start, end in zip(starts, [*starts[1:], len(shards)], strict=True):
            shard = int(shards[start])
            keys = self._index.entries(shard)["key"].take(pa.array(places[start:end])).to_pylist()
            for key, number in zip(keys, numbers[start:end].tolist(), strict=True):
                found.setdefault(key, Repeated(key, number)).add(shard)
        return list(found.values())
