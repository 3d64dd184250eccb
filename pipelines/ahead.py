"""Work that goes on while its results are not yet needed."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_GLANCE = 0.2  # seconds between looks at whether the consumer is still there


class Ahead(Generic[T]):
    """Pulls an iterator in a thread from now on, keeping a few items ready.

    Args:
        items: What to pull; used by the thread alone.
        depth: How many items to keep.
        patience: Seconds to wait for an item; None: for ever.
    """

    def __init__(self, items: Iterator[T], depth: int = 2, patience: float | None = None):
        self._held: queue.Queue[tuple[list[T], BaseException | None]] = queue.Queue(depth)
        self._items, self._patience = items, patience
        self._left = threading.Event()
        threading.Thread(target=self._pull, daemon=True, name="ahead").start()

    def __iter__(self) -> Iterator[T]:
        """Yield the items in order, or raise what the iterator raised.

        Raises:
            TimeoutError: None came for too long.
        """
        try:
            while True:
                try:
                    item, error = self._held.get(timeout=self._patience)
                except queue.Empty:
                    raise TimeoutError(f"nothing came for {self._patience:.0f} s") from None
                if error is not None:
                    raise error
                if not item:
                    return
                yield item[0]
        finally:
            self._left.set()

    def _pull(self) -> None:
        try:
            for item in self._items:
                self._put(([item], None))
                if self._left.is_set():
                    return
            self._put(([], None))
        except BaseException as error:  # handed to the consumer, who raises it
            self._put(([], error))

    def _put(self, entry: tuple[list[T], BaseException | None]) -> None:
        while not self._left.is_set():
            try:
                self._held.put(entry, timeout=_GLANCE)
                return
            except queue.Full:
                continue


def one_ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield each item once the next one has been made; an error waits for the item before it."""
    held = list(itertools.islice(items, 1))
    while held:
        following, fault = [], None
        try:
            following = list(itertools.islice(items, 1))
        except Exception as error:  # raised below
            fault = error
        yield held.pop()
        if fault is not None:
            raise fault
        held = following


class AtOnce(Executor):
    """Does what it is given before it returns, in its caller's thread."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call a function; what it raises is raised by the future's ``result``."""
        done: Future[T] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:
            done.set_exception(error)
        return done
