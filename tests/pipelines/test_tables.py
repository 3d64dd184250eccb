from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pipelines.tables import array, empty, to_table

SHAPES = {"image": ((2, 3), np.dtype(np.uint8)), "times": ((4,), np.dtype(np.float32))}


def make(rows: int) -> pa.Table:
    arrays = empty(SHAPES, rows)
    for number, values in enumerate(arrays.values()):
        values[:] = np.arange(values.size).reshape(values.shape) + number
    texts = [{"one": f"t{row}", "many": ["a", "b"][: row % 3]} for row in range(rows)]
    return to_table({"sample": pa.array(range(rows), pa.int64())}, texts, arrays)


def test_columns_keep_their_types_and_values():
    table = make(5)
    types = {field.name: str(field.type) for field in table.schema}
    assert types["image"] == "fixed_size_list<item: uint8>[6]"
    assert types["times"] == "fixed_size_list<item: float>[4]"
    assert types["text.one"] == "string"
    assert table["text.many"].to_pylist()[2] == ["a", "b"]
    assert array(table, "image", SHAPES).tolist() == np.arange(30).reshape(5, 2, 3).tolist()
    assert array(table, "times", SHAPES).dtype == np.float32


@pytest.mark.parametrize(("start", "length"), [(0, 5), (1, 3), (4, 1)])
def test_a_part_of_a_table_gives_its_own_rows(start, length):
    part = array(make(5).slice(start, length), "image", SHAPES)
    assert part.tolist() == np.arange(30).reshape(5, 2, 3)[start : start + length].tolist()


def test_a_table_in_pieces_is_put_together():
    table = pa.concat_tables([make(3), make(2)])
    assert array(table, "image", SHAPES).shape == (5, 2, 3)
    assert array(table, "image", SHAPES)[3:].tolist() == array(make(2), "image", SHAPES).tolist()


def test_a_table_in_one_piece_is_not_copied():
    table = make(4)
    first, second = (array(table, "image", SHAPES) for _ in range(2))
    assert np.shares_memory(first, second)
