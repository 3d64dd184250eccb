"""Decoded samples that a worker keeps.

Letters: N samples of the data set, B rows, W numbers of a row.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.core.permutation import Numbers
from pipelines.firsts import Mask
from pipelines.order import Order
from pipelines.reader import SUBSTITUTES, substitute

_ASIDE = ("epoch", "sample", "fault")  # columns that follow from the order
_ENTRY = 8  # bytes of a place in an array of objects


class SampleCache:
    """Rows of tables by the numbers of their samples, and why others have none.

    Args:
        size: N.
    """

    def __init__(self, size: int):
        self._size = size
        self._held = np.zeros(size, bool)
        self._faults: dict[int, dict[str, str]] = {}
        self._columns: dict[str, npt.NDArray[Any]] = {}
        self._schema = pa.schema([])
        self._bytes = self._rows = 0

    @property
    def projected(self) -> float:
        """Bytes that all samples would take, if the others are as long as those that are here."""
        return self._size * self._bytes / max(1, self._rows)

    @property
    def tells(self) -> bool:
        """Whether there are enough rows for ``projected`` to mean anything."""
        return self._rows >= min(64, self._size)

    def put(self, samples: Numbers, table: pa.Table) -> None:
        """Keep the rows of samples, or why others stand in for them. [B], B rows."""
        faults = table["fault"].to_pylist()
        good = np.array([not fault for fault in faults], bool)
        for sample, fault in zip(samples.tolist(), faults, strict=True):
            if fault:
                self._faults[sample] = json.loads(fault)[0]
        self._schema = table.schema
        for name, rows in _columns(table):
            self._bytes += _bytes_of(rows)
            if name not in self._columns:
                # Not resident before rows are written; where pages are large, few rows fill all.
                self._columns[name] = np.empty((self._size, *rows.shape[1:]), rows.dtype)
            self._columns[name][samples[good]] = rows[good]
        self._held[samples[good]] = True
        self._rows += table.num_rows

    def find(self, order: Order, epoch: int, sample: int) -> tuple[int, str] | None:
        """What stands for a sample in an epoch, as ``Reader`` has it, where that is known here.

        Returns:
            The number of what is kept, and the table's ``fault``.
        """
        if self._held[sample]:
            return sample, ""
        faults = []
        for attempt in range(SUBSTITUTES):
            if sample not in self._faults:
                return None
            faults.append(self._faults[sample])
            sample = substitute(order, epoch, sample, attempt)
            if self._held[sample]:
                return sample, json.dumps(faults)
        return None

    def has(self, samples: Numbers) -> Mask:
        """Whether each of some samples is kept. [B], [B]."""
        return self._held[samples]

    def table(
        self, epochs: Numbers, samples: Numbers, faults: Sequence[str] | None = None
    ) -> pa.Table:
        """The rows of samples that are kept, as read in these epochs. [B], [B], [B]."""
        given = {"epoch": epochs, "sample": samples, "fault": faults or [""] * len(samples)}
        columns = given | {name: kept[samples] for name, kept in self._columns.items()}
        arrays = (_column(columns[field.name], field.type) for field in self._schema)
        return pa.table(list(arrays), schema=self._schema)


def table_bytes(table: pa.Table) -> int:
    """Bytes that a table's rows take where they are kept."""
    return sum(_bytes_of(rows) for _, rows in _columns(table))


def _columns(table: pa.Table) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    for name in table.column_names:
        if name not in _ASIDE:
            yield name, _rows(table[name])


def _bytes_of(rows: npt.NDArray[Any]) -> int:
    return rows.nbytes if rows.dtype != object else sum(map(_object_bytes, rows))


def _object_bytes(value: Any) -> int:
    inner = sum(map(sys.getsizeof, value)) if isinstance(value, list) else 0
    return _ENTRY + sys.getsizeof(value) + inner


def _rows(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """A column, rows first: numbers [B, W], or objects [B]."""
    if pa.types.is_fixed_size_list(column.type):
        # Putting one chunk together would copy it.
        whole = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        return np.asarray(whole.flatten().to_numpy().reshape(-1, column.type.list_size))
    rows = np.empty(len(column), object)
    for place, value in enumerate(column.to_pylist()):
        rows[place] = value
    return rows


def _column(rows: Any, kind: pa.DataType) -> pa.Array:
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), type=kind)
    return pa.array(rows, kind)
