"""Work that goes on while its results are not yet needed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Pulls an iterator in a thread from now on, keeping a few items ready.

    Args:
        items: What to pull; used by the thread alone.
        depth: How many items to keep.
    """

    def __init__(self, items: Iterator[T], depth: int = 2):
        self._held: queue.Queue[tuple[list[T], BaseException | None]] = queue.Queue(depth)
        self._items = items
        threading.Thread(target=self._pull, daemon=True, name="ahead").start()

    def __iter__(self) -> Iterator[T]:
        """Yield the items in order, or raise what the iterator raised."""
        while True:
            item, error = self._held.get()
            if error is not None:
                raise error
            if not item:
                return
            yield item[0]

    def _pull(self) -> None:
        try:
            for item in self._items:
                self._held.put(([item], None))
            self._held.put(([], None))
        except BaseException as error:  # handed to the consumer, who raises it
            self._held.put(([], error))
