"""Ends a worker that hangs, so that the run goes on from its last commit."""

from __future__ import annotations

import faulthandler
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
_armed: list[float] = []  # patience of the steps that are watched


def watched(tables: Iterator[T], patience: float) -> Iterator[T]:
    """Yield tables, and end this process where what is done with one takes too long.

    The stacks of all threads go to the worker's log first. Workers that wait for one another hang
    together, so each tells where it stood. Waiting for a table does not count: reading has
    limits of its own.

    Args:
        tables: One a step.
        patience: Seconds that a step may take, a commit after it included.
    """
    _armed.append(patience)
    try:
        for table in tables:
            # A thread of the C library's: it ends the process even where Python is stuck.
            faulthandler.dump_traceback_later(patience, exit=True)
            yield table
            faulthandler.cancel_dump_traceback_later()
    finally:
        _armed.remove(patience)
        faulthandler.cancel_dump_traceback_later()


@contextmanager
def unwatched() -> Iterator[None]:
    """Leave out of a step what has limits of its own; the step has its whole patience after it."""
    if not _armed:
        yield
        return
    faulthandler.cancel_dump_traceback_later()
    try:
        yield
    finally:
        faulthandler.dump_traceback_later(_armed[-1], exit=True)
