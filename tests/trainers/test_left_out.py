from __future__ import annotations

import json

import pyarrow as pa
import pytest

from pipelines.core import DataError
from trainers.left_out import readable


def table(*faults: str) -> pa.Table:
    said = [
        json.dumps([{"shard": "a.tar", "key": fault, "reason": "torn"}]) if fault else ""
        for fault in faults
    ]
    return pa.table({"fault": pa.array(said, pa.string()), "row": range(len(faults))})


def test_rows_that_stand_in_for_others_are_left_out_up_to_one_in_a_hundred():
    tables = [table(*[""] * 50, "x", *[""] * 48), table("y"), table(*[""] * 100)]
    assert [len(rows) for rows in readable(tables)] == [98, 100]
    read = readable([*tables, table("z")])
    assert [len(next(read)) for _ in range(2)] == [98, 100]
    with pytest.raises(DataError, match=r"^3 of 201 samples .* the first is x of a.tar: torn; "):
        next(read)
