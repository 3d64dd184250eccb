"""The order of samples: a pure function of (chunk sizes, seed, epoch).

Chunks (runs of neighbouring samples of a shard) are permuted; then the
samples of every window of consecutive chunks are permuted among themselves.
Reading stays local to a window while the order is close to a uniform
shuffle; a window as large as the data set is one. Positions count on across
epochs: position p is place p mod N of epoch p div N, N the number of samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pipelines.core import Config

Numbers = npt.NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's finaliser; the same numbers as ``randomness.mix`` and in every version."""
    with np.errstate(over="ignore"):
        x = x + _GOLDEN
        x = (x ^ (x >> np.uint64(30))) * _MIX_1
        x = (x ^ (x >> np.uint64(27))) * _MIX_2
        return x ^ (x >> np.uint64(31))


def _hashes(seed: int, epoch: int, role: int, numbers: Numbers) -> npt.NDArray[np.uint64]:
    words = np.array([seed, epoch, role], dtype=np.int64).astype(np.uint64)
    state = mix(words[:1])
    for word in words[1:]:
        state = mix(state ^ word)
    return mix(state ^ numbers.astype(np.uint64))


class Shuffle(Config):
    """How far samples are shuffled.

    Attributes:
        chunk: Most samples in a chunk.
        window: Chunks whose samples are shuffled together.
    """

    chunk: int = Field(default=256, ge=1)
    window: int = Field(default=64, ge=1)


@dataclass(frozen=True)
class Cursor:
    """Where a run stands: samples delivered so far, as (epoch, position)."""

    epoch: int
    position: int

    @classmethod
    def at(cls, delivered: int, size: int) -> Cursor:
        """The cursor after ``delivered`` samples of a data set of ``size``."""
        return cls(*divmod(delivered, size))

    def delivered(self, size: int) -> int:
        """Samples delivered since the start of epoch 0."""
        return self.epoch * size + self.position


class Order:
    """The order in which a run sees its samples.

    Args:
        chunks: Sample count of every chunk, in the data set's order. [C] int64
        seed: The run's seed.
        window: Chunks whose samples are shuffled together.
    """

    def __init__(self, chunks: Numbers, seed: int, window: int):
        self.size = int(chunks.sum())
        self.seed = seed
        self._chunks = chunks
        self._starts = np.concatenate([[0], np.cumsum(chunks)[:-1]]).astype(np.int64)
        self._window = window
        self._permuted = lru_cache(maxsize=2)(self._permute_chunks)
        self._shuffled = lru_cache(maxsize=4)(self._shuffle_window)

    def at(self, start: int, stop: int) -> tuple[Numbers, Numbers]:
        """Look up positions [start, stop).

        Returns:
            Epoch and sample number of each position. [stop - start] int64, twice
        """
        epochs, samples = [], []
        while start < stop:
            epoch, place = divmod(start, self.size)
            found = self._in_epoch(epoch, place, min(self.size, place + stop - start))
            epochs.append(np.full(len(found), epoch, dtype=np.int64))
            samples.append(found)
            start += len(found)
        if not samples:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        return np.concatenate(epochs), np.concatenate(samples)

    def _in_epoch(self, epoch: int, start: int, stop: int) -> Numbers:
        _, bounds = self._permuted(epoch)
        parts = []
        window = int(np.searchsorted(bounds, start, side="right")) - 1
        while start < stop:
            begin, end = int(bounds[window]), int(bounds[window + 1])
            upto = min(stop, end)
            parts.append(self._shuffled(epoch, window)[start - begin : upto - begin])
            start, window = upto, window + 1
        return np.concatenate(parts)

    def _permute_chunks(self, epoch: int) -> tuple[Numbers, Numbers]:
        numbers = np.arange(len(self._chunks), dtype=np.int64)
        permuted = np.argsort(_hashes(self.seed, epoch, 0, numbers), kind="stable")
        ends = np.concatenate([[0], np.cumsum(self._chunks[permuted])])
        bounds = np.append(ends[: -1 : self._window], ends[-1])
        return permuted, bounds

    def _shuffle_window(self, epoch: int, window: int) -> Numbers:
        permuted, _ = self._permuted(epoch)
        chosen = permuted[window * self._window : (window + 1) * self._window]
        samples = np.concatenate(
            [np.arange(self._starts[c], self._starts[c] + self._chunks[c]) for c in chosen]
        ).astype(np.int64)
        return samples[np.argsort(_hashes(self.seed, epoch, 1, samples), kind="stable")]
