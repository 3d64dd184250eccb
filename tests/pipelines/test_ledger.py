from __future__ import annotations

import json
from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.ledger import Audit, Ledger
from pipelines.order import MixedOrder, Shuffle, ShuffledOrder

ORDER = ShuffledOrder(20, 5, Shuffle(chunk=4, window=2))
Row = tuple[int, str]
"""Sample, and the key of the unreadable one that it stands in for, or nothing."""


def rows_of(order=ORDER, count: int = 20) -> list[Row]:
    return [(sample, "") for sample in order.at(0, count)[1].tolist()]


def table(rows: list[Row]) -> pa.Table:
    faults = [json.dumps([{"shard": "s", "key": k, "reason": "r"}]) if k else "" for _, k in rows]
    samples = [sample for sample, _ in rows]
    return pa.table(
        {
            "sample": pa.array(samples, pa.int64()),
            "key": [f"k{sample}" for sample in samples],
            "fault": pa.array(faults, pa.string()),
        }
    )


def audit(rows: list[Row], batch: int = 6, order=ORDER, positions: int = 20) -> Audit:
    ledger = Ledger(order, positions)
    for start in range(0, len(rows), batch):
        ledger.take(table(rows[start : start + batch]))
    return ledger.audit()


@given(st.integers(1, 30))
def test_what_the_order_says_is_exact_in_batches_of_any_size(batch):
    found = audit(rows_of(count=20 + batch), batch)  # past the end of the epoch
    assert found.exact
    assert (found.samples, found.delivered, found.unreadable) == (20, 20, 0)
    assert found.keys == audit(rows_of()).keys
    assert found.examples == ()


@pytest.mark.parametrize("sample", [-1, 20, 1 << 40])
def test_a_sample_that_the_data_set_lacks_is_misplaced(sample):
    rows = rows_of()
    found = audit([*rows[:7], (sample, ""), *rows[8:]])
    assert (found.misplaced, found.missing, found.repeated) == (1, 1, 0)
    assert found.examples[0].startswith(f"position 7: sample {sample}, not ")


def dropped(rows: list[Row]) -> list[Row]:
    return rows[:7] + rows[8:]


def doubled(rows: list[Row]) -> list[Row]:
    return [*rows[:7], rows[6], *rows[8:]]


def swapped(rows: list[Row]) -> list[Row]:
    return [rows[1], rows[0], *rows[2:]]


def cut(rows: list[Row]) -> list[Row]:
    return rows[:-3]


@pytest.mark.parametrize(
    ("harm", "missing", "repeated", "misplaced"),
    [(dropped, 1, 0, 12), (doubled, 1, 1, 1), (swapped, 0, 0, 2), (cut, 3, 0, 0)],
)
def test_every_kind_of_harm_is_found(
    harm: Callable[[list[Row]], list[Row]], missing: int, repeated: int, misplaced: int
):
    found = audit(harm(rows_of()))
    assert not found.exact
    assert (found.missing, found.repeated, found.misplaced) == (missing, repeated, misplaced)
    assert found.examples
    if harm is not cut:
        assert found.keys != audit(rows_of()).keys


@given(st.lists(st.integers(0, 19), min_size=20, max_size=20))
def test_only_the_order_itself_is_exact(samples):
    expected = [sample for sample, _ in rows_of()]
    found = audit([(sample, "") for sample in samples])
    assert found.exact == (samples == expected)
    assert found.missing == len(set(range(20)) - set(samples))


def test_a_substitute_counts_for_the_sample_it_stands_in_for():
    rows = rows_of()
    asked = rows[3][0]
    rows[3] = (rows[9][0], f"k{asked}")  # delivered twice: once for itself, once instead
    found = audit(rows)
    assert found.exact
    assert found.unreadable == 1
    assert found.faults[0].key == f"k{asked}"


def test_keys_are_noted_in_order():
    noted: list[str] = []
    ledger = Ledger(ORDER, 20, noted.append)
    ledger.take(table(rows_of()))
    assert noted == [f"k{sample}" for sample, _ in rows_of()]


def test_a_mixture_may_have_a_small_data_set_more_often():
    order = MixedOrder([600, 2], [1, 1], 3, Shuffle())
    rows = rows_of(order, 602)
    assert audit(rows, 50, order, 602).exact  # each of the two came 150 times
    rows[0], rows[1] = rows[1], rows[0]
    assert not audit(rows, 50, order, 602).exact
