from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipelines.pieces import Pieces


@given(st.lists(st.integers(0, 6)), st.lists(st.integers(1, 9)))
def test_rows_come_in_order_in_the_numbers_asked_for(tables, asked):
    numbers = iter(range(sum(tables)))
    rows = ([next(numbers) for _ in range(count)] for count in tables)
    made = (pa.table({"n": pa.array(some, pa.int64())}) for some in rows)
    pieces, found = Pieces(made), []
    for count in asked:
        table = pieces.take(count)
        if table is None:
            assert len(found) + count > sum(tables)
            break
        assert table.num_rows == count
        found += table["n"].to_pylist()
    assert found == list(range(len(found)))
