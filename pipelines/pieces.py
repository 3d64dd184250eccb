"""Tables cut anew, whatever joining and cutting happened on the way."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa


class Pieces:
    """Hands out as many rows at a time as are asked for.

    Args:
        tables: Of any numbers of rows.
    """

    def __init__(self, tables: Iterable[pa.Table]):
        self._tables = iter(tables)
        self._held: list[pa.Table] = []
        self._rows = 0

    def take(self, rows: int) -> pa.Table | None:
        """The next rows, in one table; None where there are not so many."""
        while self._rows < rows:
            table = next(self._tables, None)
            if table is None:
                return None
            self._held.append(table)
            self._rows += table.num_rows
        whole = self._held[0] if len(self._held) == 1 else pa.concat_tables(self._held)
        self._rows -= rows
        # An empty rest would hold the memory of what it was cut from.
        self._held = [whole.slice(rows)] if self._rows else []
        return whole.slice(0, rows)
