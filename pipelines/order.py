"""The order of samples: a pure function of (sizes, seed, epoch), computed where it is needed.

Samples are numbered through a data set. Chunks (runs of neighbouring numbers,
all of one length but the last) are permuted by a Feistel network; then the
samples of every window of consecutive chunks are permuted among themselves.
A reader fetches few and long ranges, the order is close to a uniform shuffle,
and nothing is stored: a billion samples cost what a thousand do. Positions
count on across epochs: position p is place p mod N of epoch p div N.

Letters: N samples, C chunks, W chunks a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pipelines.core import Config
from pipelines.core.permutation import Numbers, hashes, permute, ranks

_BLOCK = 4096  # chunk places permuted together: what one call costs is spread over them


class Shuffle(Config):
    """How far samples are shuffled, and how long the ranges are that readers fetch.

    Attributes:
        chunk: Neighbouring samples that stay together on their way to a window:
            a reader fetches them as one range.
        window: Chunks, from anywhere in the data set, whose samples are shuffled
            together: a reader holds their bytes at once.
    """

    chunk: int = Field(default=16, ge=1)
    window: int = Field(default=64, ge=1)


@dataclass(frozen=True)
class Cursor:
    """Where a data set stands: samples delivered so far, as (epoch, position)."""

    epoch: int
    position: int

    @classmethod
    def at(cls, delivered: int, size: int) -> Cursor:
        """The cursor after ``delivered`` samples of a data set of ``size``."""
        return cls(*divmod(delivered, size))

    def delivered(self, size: int) -> int:
        """Samples delivered since the start of epoch 0."""
        return self.epoch * size + self.position


class Order(Protocol):
    """Which sample stands at which position."""

    @property
    def size(self) -> int:
        """Samples of an epoch."""
        ...

    @property
    def seed(self) -> int:
        """The run's seed."""
        ...

    def at(self, start: int, stop: int) -> tuple[Numbers, Numbers]:
        """Look up positions [start, stop): epoch and sample number. [stop - start] int64, twice."""
        ...

    def boundary(self, position: int) -> int:
        """The last position up to this one where reading is best cut."""
        ...

    def cursors(self, delivered: int) -> tuple[Cursor, ...]:
        """Where each data set stands after ``delivered`` samples."""
        ...


class ShuffledOrder:
    """The order of one data set.

    Args:
        size: N.
        seed: The run's seed.
        shuffle: Lengths of chunks and windows.
        number: Of the data set in a mixture: others are shuffled independently.
    """

    def __init__(self, size: int, seed: int, shuffle: Shuffle, number: int = 0):
        self.size, self.seed = size, seed
        self._number = number
        self._chunk, self._window = shuffle.chunk, shuffle.window
        self._full, self._rest = divmod(size, shuffle.chunk)
        self._chunks_at = lru_cache(maxsize=4)(self._permute_block)
        self._shuffled = lru_cache(maxsize=4)(self._shuffle_window)

    def at(self, start: int, stop: int) -> tuple[Numbers, Numbers]:
        """Look up positions [start, stop).

        Returns:
            Epoch and sample number of each position. [stop - start] int64, twice
        """
        epochs, samples = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        while start < stop:
            epoch, place = divmod(start, self.size)
            window = self._window_of(epoch, place)
            begin = self._begin(epoch, window)
            found = self._shuffled(epoch, window)[place - begin : place - begin + stop - start]
            epochs.append(np.full(len(found), epoch, dtype=np.int64))
            samples.append(found)
            start += len(found)
        return np.concatenate(epochs), np.concatenate(samples)

    def boundary(self, position: int) -> int:
        """The start of the window that a position is in."""
        epoch, place = divmod(position, self.size)
        return epoch * self.size + self._begin(epoch, self._window_of(epoch, place))

    def cursors(self, delivered: int) -> tuple[Cursor, ...]:
        """One cursor, after ``delivered`` samples."""
        return (Cursor.at(delivered, self.size),)

    def _short_place(self, epoch: int) -> int:
        """Where among the chunks the short one stands; past all where there is none."""
        if not self._rest:
            return self._full
        return int(self._hash(epoch, 2, np.zeros(1, np.int64))[0] % np.uint64(self._full + 1))

    def _begin(self, epoch: int, window: int) -> int:
        """Place of a window's first sample."""
        chunk = window * self._window
        past = chunk > self._short_place(epoch)
        return (chunk - past) * self._chunk + past * self._rest

    def _window_of(self, epoch: int, place: int) -> int:
        short = self._short_place(epoch)
        past = place - short * self._chunk
        if past < 0:
            chunk = place // self._chunk
        else:
            chunk = short if past < self._rest else short + (past - self._rest) // self._chunk
            chunk += past >= self._rest > 0
        return chunk // self._window

    def _permute_block(self, epoch: int, block: int) -> Numbers:
        places = np.arange(block * _BLOCK, min((block + 1) * _BLOCK, self._full), dtype=np.int64)
        return permute(places, self._full, (self.seed, epoch, self._number))

    def _chunks_of(self, epoch: int, window: int) -> Numbers:
        """Numbers of a window's chunks; the short one has the number ``_full``."""
        first, short = window * self._window, self._short_place(epoch)
        last = min(first + self._window, self._full + (self._rest > 0))
        places = np.arange(first, last, dtype=np.int64)
        is_short = (places == short) & (self._rest > 0)
        places -= (places > short) & (self._rest > 0)
        places[is_short] = 0
        found = np.zeros_like(places)
        for block in np.unique(places // _BLOCK) if self._full else ():
            here = places // _BLOCK == block
            found[here] = self._chunks_at(epoch, int(block))[places[here] - block * _BLOCK]
        found[is_short] = self._full
        return found

    def _shuffle_window(self, epoch: int, window: int) -> Numbers:
        starts = self._chunks_of(epoch, window) * self._chunk
        samples = (starts[:, None] + np.arange(self._chunk, dtype=np.int64)).reshape(-1)
        samples = samples[samples < self.size]
        return samples[np.argsort(self._hash(epoch, 1, samples), kind="stable")]

    def _hash(self, epoch: int, role: int, numbers: Numbers) -> npt.NDArray[np.uint64]:
        return hashes((self.seed, epoch, self._number, role), numbers)


class MixedOrder:
    """Several data sets, each in its own order and epoch, in fixed proportions.

    The data sets are split in two halves again and again; of the first x
    positions of a node, floor(x * left / (left + right)) go to the left half.
    So what stands at any position follows without what came before it, and in
    any run of positions a data set's count is within 1 a level of its share.

    Args:
        sizes: Samples of each data set; their numbers follow one another.
        weights: Of each; only their proportions count.
        seed: The run's seed.
        shuffle: Lengths of chunks and windows.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[int], seed: int, shuffle: Shuffle):
        self.size, self.seed = sum(sizes), seed
        self._weights = tuple(weights)
        self._orders = [
            ShuffledOrder(size, seed, shuffle, number) for number, size in enumerate(sizes)
        ]
        self._offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def at(self, start: int, stop: int) -> tuple[Numbers, Numbers]:
        """Look up positions [start, stop).

        Returns:
            Epoch of its own data set, and sample number, of each position. Twice int64
        """
        before, after = self._counts(start), self._counts(stop)
        epochs = np.empty(stop - start, np.int64)
        samples = np.empty(stop - start, np.int64)
        which = self.which(start, stop)
        for number, order in enumerate(self._orders):
            here = which == number
            epochs[here], found = order.at(before[number], after[number])
            samples[here] = found + self._offsets[number]
        return epochs, samples

    def which(self, start: int, stop: int) -> Numbers:
        """Data set of each position. [stop - start] int64."""
        places = np.arange(start, stop, dtype=np.int64)
        found = np.empty(stop - start, np.int64)
        self._choose(0, len(self._weights), places, np.arange(stop - start), found)
        return found

    def boundary(self, position: int) -> int:
        """Windows of several data sets never end together, so any place is as good."""
        return position

    def cursors(self, delivered: int) -> tuple[Cursor, ...]:
        """Where each data set stands after ``delivered`` samples of the mixture."""
        counts = self._counts(delivered)
        return tuple(
            Cursor.at(count, order.size) for count, order in zip(counts, self._orders, strict=True)
        )

    def _halves(self, low: int, high: int) -> tuple[int, int, int]:
        middle = (low + high + 1) // 2
        return middle, sum(self._weights[low:middle]), sum(self._weights[low:high])

    def _choose(self, low: int, high: int, places: Numbers, rows: Numbers, found: Numbers) -> None:
        if high - low == 1:
            found[rows] = low
            return
        middle, left, both = self._halves(low, high)
        before, after = ranks(places, left, both), ranks(places + 1, left, both)
        goes_left = after > before
        self._choose(low, middle, before[goes_left], rows[goes_left], found)
        goes_right = ~goes_left
        self._choose(middle, high, (places - before)[goes_right], rows[goes_right], found)

    def _counts(self, position: int) -> list[int]:
        """Samples of each data set before a position."""

        def count(low: int, high: int, place: int) -> list[int]:
            if high - low == 1:
                return [place]
            middle, left, both = self._halves(low, high)
            first = place * left // both
            return [*count(low, middle, first), *count(middle, high, place - first)]

        return count(0, len(self._weights), position)
