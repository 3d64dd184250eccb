"""Interleaved rounds: what disturbs the machine disturbs every candidate alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sized

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


def rate_of(batches: Iterable[Sized], warm: int) -> float:
    """Samples/s of batches handed to a consumer that keeps none.

    Args:
        batches: In order.
        warm: Batches that go by before the clock starts: processes start and import till then.
    """
    began, last, count = 0.0, 0.0, 0
    for number, batch in enumerate(batches, 1):
        last = time.perf_counter()
        if number <= warm:
            began = last
        else:
            count += len(batch)
    return count / (last - began)
