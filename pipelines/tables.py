"""Decoded samples as Arrow tables: columns that travel between processes without copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Shapes = Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]
"""Shape and type of a sample's part of each array column."""
Arrays = dict[str, npt.NDArray[np.generic]]
Texts = Mapping[str, str | list[str]]


def empty(shapes: Shapes, rows: int) -> Arrays:
    """Make an array of each column for some rows, to be filled. [rows, *shape]."""
    return {name: np.empty((rows, *shape), dtype) for name, (shape, dtype) in shapes.items()}


def to_table(columns: Mapping[str, pa.Array], texts: Sequence[Texts], arrays: Arrays) -> pa.Table:
    """Put columns together.

    Args:
        columns: Whole columns.
        texts: Texts of each row; in columns ``text.NAME``, lists where a row has several.
        arrays: One array a column, rows first; in lists of fixed size, not copied.
    """
    table = dict(columns)
    for name, first in (texts[0] if texts else {}).items():
        kind = pa.list_(pa.string()) if isinstance(first, list) else pa.string()
        table[f"text.{name}"] = pa.array([row[name] for row in texts], kind)
    for name, array in arrays.items():
        flat = pa.array(array.reshape(-1))
        table[name] = pa.FixedSizeListArray.from_arrays(flat, array[0].size)
    return pa.table(table)


def array(table: pa.Table, name: str, shapes: Shapes) -> npt.NDArray[np.generic]:
    """An array column; a read-only view where the table is in one piece. [rows, *shape]."""
    column = table[name]  # putting one chunk together would copy it
    column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return np.asarray(column.flatten().to_numpy().reshape(-1, *shapes[name][0]))
