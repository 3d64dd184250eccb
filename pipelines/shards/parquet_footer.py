"""What a Parquet file says of its columns before any of them is unpacked.

pyarrow tells it too, but ends the whole process where a footer is damaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

NUMBER, TEXT = 2, 6
"""Kinds of columns: whole numbers of 64 bits, and bytes of any length."""
_DICTIONARY = (2, 8)  # encodings
_DEEPEST = 16


@dataclass(frozen=True)
class Chunk:
    """A column of a row group.

    Attributes:
        path: Names of the column and of what is inside it.
        kind: Of its values.
        values: How many, those that are null included.
        size: Bytes before compression.
        repeats: Whether it holds values once that come more often.
    """

    path: Sequence[str]
    kind: int
    values: int
    size: int
    repeats: bool


def read_chunks(data: bytes) -> tuple[int, list[Chunk]]:
    """Rows of a Parquet file, and all chunks of its columns.

    Raises:
        ValueError: There is no footer, or it is damaged; or ``LookupError``, ``TypeError``.
    """
    if data[-4:] != b"PAR1":
        raise ValueError("not Parquet")
    length = int.from_bytes(data[-8:-4], "little")
    footer = _Compact(data[max(0, len(data) - 8 - length) : -8]).struct()
    groups = footer[4]
    rows = max(footer[3], sum(group[3] for group in groups))
    return rows, [_chunk(column[3]) for group in groups for column in group[1]]


def _chunk(meta: dict[int, Any]) -> Chunk:
    path = [str(part, "utf-8") for part in meta[3]]
    return Chunk(path, meta[1], meta[5], meta[6], any(name in _DICTIONARY for name in meta[2]))


class _Compact:
    """Thrift's compact protocol: structs as values by the number of their field."""

    def __init__(self, data: bytes):
        self._data, self._at = data, 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        if depth > _DEEPEST:
            raise ValueError("too deep")
        found: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._number()
            kind = head & 15
            found[number] = kind == 1 if kind in (1, 2) else self._value(kind, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2, 3):  # a byte, and in lists a truth as well
            return self._byte()
        if kind in (4, 5, 6):
            return self._number()
        if kind == 7:
            return self._bytes(8)
        if kind == 8:
            return self._bytes(self._unsigned())
        if kind in (9, 10):
            head = self._byte()
            size = self._unsigned() if head >> 4 == 15 else head >> 4
            return [self._value(head & 15, depth + 1) for _ in range(size)]
        if kind == 12:
            return self.struct(depth + 1)
        raise ValueError("a value of unknown kind")  # maps: Parquet has none

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _bytes(self, count: int) -> bytes:
        self._at += count
        if self._at > len(self._data):
            raise ValueError("ends too early")
        return self._data[self._at - count : self._at]

    def _unsigned(self) -> int:
        value, shift = 0, 0
        while (byte := self._byte()) & 0x80 and shift < 63:
            value, shift = value | (byte & 0x7F) << shift, shift + 7
        return value | (byte & 0x7F) << shift

    def _number(self) -> int:
        value = self._unsigned()
        return value >> 1 ^ -(value & 1)
