"""Statistics of any number of values in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

LIMIT = 1 << 18  # values that a column keeps, from which medians are exact
NAMES = 100  # different names that a tally tells apart
_PENDING = 4096
_LONGEST = 80  # characters of a name: what names something in a file may be a whole book


class Column:
    """Numbers, of which extremes and mean are exact.

    Quantiles are exact up to ``LIMIT`` values and from then on those of a
    random part of at least half as many, the same in every run.
    """

    def __init__(self) -> None:
        self.count = 0
        self._total = 0.0
        self._low, self._high = np.inf, -np.inf
        self._pending: list[float] = []
        self._values = np.empty(0, np.float64)
        self._draws = np.empty(0, np.float32)
        self._share = 1.0
        self._random = np.random.default_rng(0)

    def add(self, value: float) -> None:
        """Add a number."""
        self._pending.append(value)
        if len(self._pending) == _PENDING:
            self._flush()

    def extend(self, values: npt.NDArray[Any]) -> None:
        """Add an array of numbers [K]."""
        if not len(values):
            return
        values = values.astype(np.float64)
        self.count += len(values)
        self._total += float(values.sum())
        self._low = min(self._low, float(values.min()))
        self._high = max(self._high, float(values.max()))
        draws = self._random.random(len(values), np.float32)
        self._values = np.concatenate([self._values, values[draws < self._share]])
        self._draws = np.concatenate([self._draws, draws[draws < self._share]])
        while len(self._values) > LIMIT:
            self._share /= 2
            self._values = self._values[self._draws < self._share]
            self._draws = self._draws[self._draws < self._share]

    def summary(self) -> dict[str, float] | None:
        """``min``, ``median``, ``mean``, ``p95``, ``max`` and ``total``; None without values."""
        self._flush()
        if not self.count:
            return None
        median, p95 = np.quantile(self._values, [0.5, 0.95]).tolist()
        return {
            "min": _plain(self._low),
            "median": _plain(median),
            "mean": self._total / self.count,
            "p95": _plain(p95),
            "max": _plain(self._high),
            "total": _plain(self._total),
        }

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        self.extend(np.array(pending, np.float64))


class Tally:
    """How often names occur; of more than ``NAMES`` different ones the rest is ``others``."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self.others = 0

    def add(self, name: str, times: int = 1) -> None:
        """Count a name."""
        name = readable(name)
        if name in self._counts or len(self._counts) < NAMES:
            self._counts[name] += times
        else:
            self.others += times

    def summary(self) -> dict[str, int]:
        """Counts by name, the most frequent first."""
        ordered = dict(sorted(self._counts.items(), key=lambda item: (-item[1], item[0])))
        return ordered | ({"others": self.others} if self.others else {})


class Repeats:
    """Share of values that another value had before them.

    Values are told apart by hashes of 64 bits. Above ``LIMIT`` different ones
    only those of some hashes are followed, all occurrences of them. Empty values are counted by
    themselves: their hash is 0, which is always followed, and there may be many.
    """

    def __init__(self) -> None:
        self._held: Counter[int] = Counter()
        self._mask = 0
        self._empty = 0

    def add(self, value: str) -> None:
        """Add a value."""
        if not value:
            self._empty += 1
            return
        hashed = hash(value)
        if hashed & self._mask:
            return
        self._held[hashed] += 1
        if len(self._held) > LIMIT:
            self._mask = 2 * self._mask + 1
            self._held = Counter({h: n for h, n in self._held.items() if not h & self._mask})

    def share(self) -> float:
        """In [0, 1]; 0 without values."""
        of = self._mask + 1  # values to each that is followed
        total = self._empty + of * sum(self._held.values())
        different = bool(self._empty) + of * len(self._held)
        return 1 - different / total if total else 0.0


class Histogram:
    """Counts of numbers between edges.

    Args:
        edges: Where a bin ends and the next begins, ascending.
    """

    def __init__(self, edges: Sequence[int]):
        self._edges = list(edges)
        self._counts = [0] * (len(edges) + 1)

    def add(self, value: float) -> None:
        """Count a number."""
        self._counts[int(np.searchsorted(self._edges, value, side="right"))] += 1

    def summary(self) -> list[dict[str, int | None]]:
        """Bins from the first to the last that holds any: ``from``, ``below`` and ``count``."""
        bounds = zip([0, *self._edges], [*self._edges, None], self._counts, strict=True)
        bins = [{"from": a, "below": b, "count": n} for a, b, n in bounds]
        filled = [place for place, count in enumerate(self._counts) if count]
        return bins[filled[0] : filled[-1] + 1] if filled else []


def readable(text: str, most: int = _LONGEST) -> str:
    """A text of a file as it can be stored and shown: without half surrogates, cut if it is long.

    >>> readable("abcdef", 4)
    'abc…'
    """
    text = text[: most + 1].encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= most else text[: most - 1] + "…"


def _plain(value: float) -> float:
    """A whole number as an int, which JSON writes without a point."""
    return int(value) if value == int(value) else value
