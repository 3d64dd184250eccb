"""A ledger of what a stream delivered, against what its order says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from pipelines.core.source import Fault
from pipelines.order import Order

_SHOWN = 5  # examples of each kind of mistake


@dataclass(frozen=True)
class Audit:
    """What a ledger found.

    Attributes:
        samples: Of the data set.
        delivered: Positions delivered.
        unreadable: Distinct samples that another one stood in for.
        missing: Samples that were neither delivered nor found unreadable.
        repeated: Samples that came more often than the order has them.
        misplaced: Positions at which another sample stood than the order says.
        keys: SHA-256 over the delivered keys, in order: equal for equal deliveries.
        faults: The unreadable samples.
        examples: The first mistakes, in words.
    """

    samples: int
    delivered: int
    unreadable: int
    missing: int
    repeated: int
    misplaced: int
    keys: str
    faults: tuple[Fault, ...]
    examples: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether every readable sample came as often, and where, the order has it."""
        return not (self.missing or self.repeated or self.misplaced)


@dataclass
class Ledger:
    """Takes down global batches as they come.

    Args:
        order: What should come.
        positions: How many positions are taken down; later ones are ignored.
        note: Called with every delivered key, in order.
    """

    order: Order
    positions: int
    note: Callable[[str], object] = lambda key: None
    _position: int = 0
    _misplaced: int = 0
    _examples: list[str] = field(default_factory=list)
    _faults: dict[int, Fault] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Of what came, and of what should have come: a billion samples are two gigabytes.
        self._came = np.zeros(self.order.size, np.uint8)
        self._due = np.zeros(self.order.size, np.uint8)
        self._hash = hashlib.sha256()

    def take(self, table: pa.Table) -> None:
        """Take down the next rows of the global order."""
        table = table.slice(0, self.positions - self._position)
        _, asked = self.order.at(self._position, self._position + table.num_rows)
        samples = table["sample"].to_numpy()
        faults = table["fault"].to_pylist()
        readable = np.array([not fault for fault in faults], dtype=bool)
        for row in np.flatnonzero(readable & (samples != asked)):
            self._misplaced += 1
            self._say(f"position {self._position + row}: sample {samples[row]}, not {asked[row]}")
        for row in np.flatnonzero(~readable):
            self._faults[int(asked[row])] = Fault(**json.loads(faults[row])[0])
        there = readable & (samples >= 0) & (samples < self.order.size)
        np.add.at(self._came, samples[there], 1)
        np.add.at(self._came, asked[~readable], 1)
        np.add.at(self._due, asked, 1)
        for key in table["key"].to_pylist():
            self._hash.update(key.encode() + b"\n")
            self.note(key)
        self._position += table.num_rows

    def audit(self) -> Audit:
        """Sum up."""
        for start in range(self._position, self.positions, 1 << 20):  # what never came is due
            _, asked = self.order.at(start, min(start + (1 << 20), self.positions))
            np.add.at(self._due, asked, 1)
        surplus = (self._came - self._due).view(np.int8)  # right also where counts wrapped
        missing, repeated = np.flatnonzero(surplus < 0), np.flatnonzero(surplus > 0)
        for sample in missing[:_SHOWN]:
            self._say(f"sample {sample} came {-surplus[sample]} times too few")
        for sample in repeated[:_SHOWN]:
            self._say(f"sample {sample} came {surplus[sample]} times too many")
        return Audit(
            samples=self.order.size,
            delivered=self._position,
            unreadable=len(self._faults),
            missing=len(missing),
            repeated=len(repeated),
            misplaced=self._misplaced,
            keys=self._hash.hexdigest(),
            faults=tuple(self._faults.values()),
            examples=tuple(self._examples),
        )

    def _say(self, example: str) -> None:
        if len(self._examples) < 3 * _SHOWN:
            self._examples.append(example)
