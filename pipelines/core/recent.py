"""A bounded memory of what was looked up last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """Remembers the newest values up to a number of bytes. Pickles empty.

    Args:
        limit: Bytes that it may hold; one value may be larger.
        size: Bytes of a value.
    """

    def __init__(self, limit: int, size: Callable[[T], int]):
        self._limit, self._size = limit, size
        self._held: OrderedDict[Hashable, T] = OrderedDict()
        self._bytes = 0

    def __reduce__(self) -> tuple[type[Recent[T]], tuple[int, Callable[[T], int]]]:
        return type(self), (self._limit, self._size)

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is remembered under a key, or make it."""
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        value = make()
        self._held[key] = value
        self._bytes += self._size(value)
        while self._bytes > self._limit and len(self._held) > 1:
            _, old = self._held.popitem(last=False)
            self._bytes -= self._size(old)
        return value
