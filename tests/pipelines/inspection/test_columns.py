from __future__ import annotations

import numpy as np
import pytest

from pipelines.inspection import columns
from pipelines.inspection.columns import Column, Histogram, Repeats, Tally, readable


def test_a_column_is_exact_as_long_as_it_keeps_all() -> None:
    values = np.random.default_rng(0).integers(0, 1000, 10_000)
    column = Column()
    column.extend(values[:4000])
    for value in values[4000:].tolist():
        column.add(value)
    assert column.summary() == {
        "min": values.min(),
        "median": np.median(values),
        "mean": pytest.approx(values.mean()),
        "p95": pytest.approx(np.quantile(values, 0.95)),
        "max": values.max(),
        "total": values.sum(),
    }
    assert isinstance(column.summary()["total"], int)


def test_a_column_of_many_values_is_bounded_and_nearly_right(monkeypatch) -> None:
    monkeypatch.setattr(columns, "LIMIT", 5000)
    values = np.arange(200_000)
    column = Column()
    for part in np.array_split(values, 70):
        column.extend(part)
        assert len(column._values) == len(column._draws) <= 5000
    facts = column.summary()
    assert (facts["min"], facts["max"], facts["total"]) == (0, 199_999, values.sum())
    assert facts["median"] == pytest.approx(100_000, rel=0.06)
    assert facts["p95"] == pytest.approx(190_000, rel=0.03)
    again = Column()
    again.extend(values)
    assert again.summary()["max"] == facts["max"]


def test_nothing_has_no_statistics() -> None:
    column = Column()
    column.extend(np.empty(0))
    assert column.summary() is None
    assert Repeats().share() == 0
    assert Histogram((1, 2)).summary() == []
    assert Tally().summary() == {}


def test_a_tally_of_too_many_names_counts_the_rest(monkeypatch) -> None:
    monkeypatch.setattr(columns, "NAMES", 2)
    tally = Tally()
    for name in ["b", "a", "a", "c", "d", "b", "b"]:
        tally.add(name)
    assert list(tally.summary().items()) == [("b", 3), ("a", 2), ("others", 2)]


def test_repeats_are_those_that_came_before() -> None:
    repeats = Repeats()
    for value in ["x", "y", "x", "x"]:
        repeats.add(value)
    assert repeats.share() == 0.5


def test_the_share_of_repeats_holds_when_only_some_are_followed(monkeypatch) -> None:
    monkeypatch.setattr(columns, "LIMIT", 1000)
    repeats = Repeats()
    for number in range(40_000):
        repeats.add(str(number % 10_000))
    assert len(repeats._held) <= 1000
    assert repeats.share() == 0.75


def test_many_empty_values_are_no_more_than_they_are(monkeypatch) -> None:
    monkeypatch.setattr(columns, "LIMIT", 1000)
    repeats = Repeats()
    for number in range(40_000):
        repeats.add(str(number))
        if number % 10 == 0:
            repeats.add("")
    assert repeats.share() == pytest.approx(3_999 / 44_000, rel=0.1)


def test_a_histogram_has_the_bins_between_what_it_holds() -> None:
    histogram = Histogram((10, 20, 30))
    for value in [10, 19, 45]:
        histogram.add(value)
    assert histogram.summary() == [
        {"from": 10, "below": 20, "count": 2},
        {"from": 20, "below": 30, "count": 0},
        {"from": 30, "below": None, "count": 1},
    ]


def test_half_surrogates_can_be_written() -> None:
    assert readable("a\ud800b") == "a?b"
    assert readable("abcd", 4) == "abcd"
    assert readable("abcde", 4) == "abc…"
