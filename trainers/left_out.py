"""What of a data set cannot be used: a score is of what is asked for, and not of the rest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core import DataError
from pipelines.core.source import Fault, Source

_LEFT_OUT = 0.01  # share of samples without which a score would be of something else


class LeftOut:
    """What of a data set cannot be used, and whether that is too much.

    Args:
        where: The data set, for messages; empty where the shard of a sample says enough.
    """

    def __init__(self, where: str = ""):
        self._beginning = f"{where}: " if where else ""
        self._faults, self._first = 0, Fault("", "", "")

    def add(self, fault: Fault) -> None:
        """Leave a sample out."""
        self._first = self._first if self._faults else fault
        self._faults += 1

    def check_some(self, used: int) -> None:
        """Refuse a set of which nothing is left.

        Raises:
            DataError: No sample is readable.
        """
        if not used:
            first = f"{self._first.key}: {self._first.reason}"
            raise DataError(f"{self._beginning}no sample is readable; {first}")

    def check(self, asked: int) -> None:
        """Refuse a set of which so much is left out that a score would be of something else.

        Raises:
            DataError: Over 1 % cannot be used.
        """
        if self._faults > _LEFT_OUT * asked:
            raise DataError(
                f"{self._beginning}{self._faults} of {asked} samples are broken or lack what is "
                f"asked for; the first is {self._first.key} of {self._first.shard}: "
                f"{self._first.reason}; name another field, mend them, or take them out"
            )


def readable(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Leave rows out that only stand in for unreadable samples, which would count twice.

    Args:
        tables: Decoded samples; the column ``fault`` says which rows are such.

    Yields:
        The other rows of each table that has any.

    Raises:
        DataError: After the last one: over 1 % of the rows are such.
    """
    left_out, asked = LeftOut(), 0
    for table in tables:
        asked += table.num_rows
        for faults in filter(None, table["fault"].to_pylist()):
            left_out.add(Fault(**json.loads(faults)[0]))
        whole = table.filter(pc.equal(table["fault"], ""))
        if whole.num_rows:
            yield whole
    left_out.check(asked)


def check_whole(source: Source) -> None:
    """Refuse a data set of which nobody knows what it held.

    Raises:
        DataError: Reading one of its shards stopped early when it was indexed.
    """
    for fault in source.faults:
        raise DataError(
            f"{fault.shard}: it is damaged ({fault.reason}), and what it holds behind that is "
            "not known; write it anew, or take it out of the data"
        )
