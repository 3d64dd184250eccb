"""Ends a worker that hangs, so that the run goes on from its last commit."""

from __future__ import annotations

import faulthandler
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
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
            _arm(patience)
            yield table
            _disarm()
    finally:
        _armed.remove(patience)
        _disarm()


@contextmanager
def unwatched() -> Iterator[None]:
    """Leave out of a step what has limits of its own; the step has its whole patience after it."""
    if not _armed:
        yield
        return
    _disarm()
    try:
        yield
    finally:
        _arm(_armed[-1])


def _arm(patience: float) -> None:
    """Have the system's timer end this process by SIGALRM, even where Python is stuck.

    That holds where nothing else has taken the signal: in a training worker nothing does.
    """
    _tell_stacks()
    signal.setitimer(signal.ITIMER_REAL, patience)


def _disarm() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)


@cache
def _tell_stacks() -> None:
    """Have the timer's signal write stacks first, and then do what it does by itself.

    A thread that waits, as the library has for this, takes two thirds of a millisecond to start
    and to end beside threads that compute; the timer is one call of the system.
    """
    faulthandler.register(signal.SIGALRM, chain=True)
