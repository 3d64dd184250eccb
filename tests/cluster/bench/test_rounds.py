from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.bench import rounds
from cluster.bench.rounds import interleave, medians, rate_of, ratios
from pipelines.core import DataError


def test_candidates_take_turns() -> None:
    turns: list[str] = []

    def measure(name: str, rate: float) -> float:
        turns.append(name)
        return rate * len(turns)

    said: list[str] = []
    candidates = {name: lambda name=name: measure(name, 1.0) for name in "ab"}
    rates = interleave(candidates, 2, said.append)
    assert turns == ["a", "b", "a", "b"]
    assert rates == {"a": [1.0, 3.0], "b": [2.0, 4.0]}
    assert said[-1] == "round 2/2: b 4/s"


def test_ratios_are_taken_round_by_round() -> None:
    rates = {"a": [10.0, 40.0, 9.0], "b": [5.0, 10.0, 3.0]}
    assert medians(rates) == {"a": 10.0, "b": 5.0}
    assert ratios(rates, "a") == {"b": 3.0}


def batches(clock: list[float], steps: list[float]) -> Iterator[list[int]]:
    for seconds in steps:
        clock[0] += seconds
        yield [0] * 8


def test_the_clock_starts_when_all_is_warm_and_stops_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr(rounds.time, "perf_counter", lambda: clock[0])
    given = batches(clock, [50.0, 1.0, 3.0, 1.0, 1.0, 2.0, 77.0])
    assert rate_of(given, warm=4.0, seconds=4.0) == 3 * 8 / 4.0
    assert list(given) == []  # closed
    with pytest.raises(DataError, match="too few batches"):
        rate_of(batches(clock, [1.0, 1.0]), warm=4.0, seconds=4.0)
