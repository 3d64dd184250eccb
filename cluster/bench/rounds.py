"""Interleaved rounds: what disturbs the machine disturbs every candidate alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sized

from pipelines.core import DataError

Measure = Callable[[], float]
"""Runs a candidate once; returns its rate in samples/s."""


def interleave(
    candidates: Mapping[str, Measure], rounds: int, say: Callable[[str], None]
) -> dict[str, list[float]]:
    """Measure every candidate once a round.

    Args:
        candidates: By name.
        rounds: How often each is measured.
        say: Told about every measurement.

    Returns:
        Rates of each candidate, one a round.
    """
    rates: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds):
        for name, measure in candidates.items():
            rates[name].append(measure())
            say(f"round {number + 1}/{rounds}: {name} {rates[name][-1]:,.0f}/s")
    return rates


def medians(rates: Mapping[str, list[float]]) -> dict[str, float]:
    """Median rate of each candidate."""
    return {name: statistics.median(values) for name, values in rates.items()}


def ratios(rates: Mapping[str, list[float]], mine: str) -> dict[str, float]:
    """Median over rounds of one candidate's rate divided by each other's in the same round."""
    return {
        name: statistics.median(a / b for a, b in zip(rates[mine], values, strict=True))
        for name, values in rates.items()
        if name != mine
    }


def rate_of(batches: Iterator[Sized], warm: float, seconds: float) -> float:
    """Samples/s of batches handed to a consumer that keeps none.

    Args:
        batches: In order; closed when the time is over.
        warm: Seconds from the first batch until the clock starts: processes start, import
            and touch their memory for the first time till then.
        seconds: How long is measured, if there are batches for so long.
    """
    first = began = last = None
    count = 0
    for batch in batches:
        now = time.perf_counter()
        first = now if first is None else first
        if began is None:
            began = now if now - first >= warm else None
            continue
        last, count = now, count + len(batch)
        if last - began >= seconds:
            break
    if hasattr(batches, "close"):
        batches.close()
    if began is None or last is None:
        raise DataError("too few batches to measure; use more data, or fewer seconds")
    return count / (last - began)
