"""Ends a worker that hangs, so that the run goes on from its last commit."""

from __future__ import annotations

import faulthandler
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


def watched(tables: Iterator[T], patience: float) -> Iterator[T]:
    """Yield tables, and end this process where what is done with one takes too long.

    The stacks of all threads go to the worker's log first. Workers that wait for one another hang
    together, so each tells where it stood. Waiting for a table does not count: reading has
    limits of its own.

    Args:
        tables: One a step.
        patience: Seconds that a step may take, a commit after it included.
    """
    try:
        for table in tables:
            # A thread of the C library's: it ends the process even where Python is stuck.
            faulthandler.dump_traceback_later(patience, exit=True)
            yield table
            faulthandler.cancel_dump_traceback_later()
    finally:
        faulthandler.cancel_dump_traceback_later()
