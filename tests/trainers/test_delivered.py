from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core import StorageError
from trainers.delivered import Delivered, delivered


def tables(*numbers: int, fault: str | None = "") -> Iterator[pa.Table]:
    for n in numbers:
        samples = [2 * n, 2 * n + 1]
        yield pa.table(
            {
                "sample": samples,
                "epoch": [0, 0],
                "key": [f"k{s}" for s in samples],
                "fault": [fault, ""],
            }
        )


def samples_of(run: Path, samples: int) -> list[int]:
    return [s for part in delivered(str(run), samples) for s in part["sample"].to_pylist()]


def take(ledger: Delivered, *numbers: int) -> None:
    assert len(list(ledger.noted(tables(*numbers)))) == len(numbers)


def test_every_step_up_to_the_commit_is_there_in_order(tmp_path: Path) -> None:
    ledger = Delivered(0)
    take(ledger, 4, 1)
    ledger.write(str(tmp_path), 4)
    take(ledger, 3)
    ledger.write(str(tmp_path), 6)
    take(ledger, 9)  # never committed
    assert samples_of(tmp_path, 6) == [8, 9, 2, 3, 6, 7]
    assert samples_of(tmp_path, 4) == [8, 9, 2, 3]


def test_an_attempt_that_died_before_its_commit_counts_for_nothing(tmp_path: Path) -> None:
    first = Delivered(0)
    take(first, 0)
    first.write(str(tmp_path), 2)
    take(first, 1)
    first.write(str(tmp_path), 4)  # the commit at 4 was never completed
    second = Delivered(2)
    take(second, 1, 2)
    second.write(str(tmp_path), 6)
    assert samples_of(tmp_path, 6) == [0, 1, 2, 3, 4, 5]


def test_a_missing_or_damaged_part_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="missing; train with the profile's ledger: true"):
        delivered(str(tmp_path), 4)
    ledger = Delivered(0)
    take(ledger, 0)
    ledger.write(str(tmp_path), 2)
    (place,) = (tmp_path / "ledger").iterdir()
    place.write_bytes(b"not parquet")
    with pytest.raises(StorageError, match="damaged"):
        delivered(str(tmp_path), 2)


def test_a_part_with_other_columns_is_damaged(tmp_path: Path) -> None:
    ledger = Delivered(0)
    take(ledger, 0)
    ledger.write(str(tmp_path), 2)
    (place,) = (tmp_path / "ledger").iterdir()
    part = pq.read_table(place)
    pq.write_table(part.drop_columns(["fault"]), place)
    with pytest.raises(StorageError, match="damaged"):
        delivered(str(tmp_path), 2)


def test_a_part_that_leads_nowhere_is_damaged(tmp_path: Path) -> None:
    ledger = Delivered(8)
    take(ledger, 0)
    ledger.write(str(tmp_path), 2)
    with pytest.raises(StorageError, match="damaged"):
        delivered(str(tmp_path), 2)


def test_what_is_kept_holds_no_part_of_the_blocks_it_came_in() -> None:
    ledger = Delivered(0)
    (table,) = tables(7)
    list(ledger.noted(iter([table])))
    (kept,) = ledger._parts
    assert kept.equals(table.select(kept.column_names).cast(kept.schema))
    assert not addresses(kept) & addresses(table)


def addresses(table: pa.Table) -> set[int]:
    chunks = [chunk for column in table.columns for chunk in column.chunks]
    return {b.address for chunk in chunks for b in chunk.buffers() if b is not None and b.size}
