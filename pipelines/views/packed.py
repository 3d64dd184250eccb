"""Views as columns of a table: how a batch travels that was augmented where it was read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from pipelines.core.batch import Batch
from pipelines.tables import array
from pipelines.views.upload import upload

_VIEW, _KEYS = "view", "keys"
_KEPT = ("epoch", "sample", "key", "fault")


class Augmented:
    """Makes a table of views of a table of decoded samples; for a read task.

    Args:
        views: Makes the views; its device is that of the read task.
        threads: Threads that do so, on a CPU.
    """

    def __init__(self, views: Callable[[pa.Table], Batch], threads: int):
        self._views, self._threads = views, threads

    def __call__(self, table: pa.Table) -> pa.Table:
        """Replace what was decoded by the views of it."""
        torch.set_num_threads(self._threads)
        return pack(table, self._views(table))


def pack(table: pa.Table, batch: Batch) -> pa.Table:
    """Put a batch's views beside what says which samples they are of.

    A sample that is in the batch several times has all its views in one row. A view's shape and
    type are part of its column's name, which whatever cuts and joins tables on the way leaves
    alone.
    """
    columns = {name: table[name] for name in _KEPT}
    repeats = len(batch) // table.num_rows
    columns[_KEYS] = _lists(batch.keys.cpu().numpy(), repeats)
    for name, view in batch.views.items():
        numbers = view.cpu().contiguous().numpy()
        size = repeats * int(np.prod(numbers.shape[1:], dtype=np.int64))
        shape = "x".join(str(length) for length in numbers.shape[1:])
        column = _lists(numbers.reshape(-1).view(_stored(numbers.dtype)), size)
        columns[f"{_VIEW}:{name}:{numbers.dtype}:{shape}"] = column
    return pa.table(columns)


def _lists(numbers: npt.NDArray[Any], length: int) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(numbers), length)


def unpack(table: pa.Table, device: torch.device) -> Batch:
    """Take a table of views apart; a copy, on the training device."""
    views = {}
    repeats = table.schema.field(_KEYS).type.list_size
    for column in table.column_names:
        kind, _, rest = column.partition(":")
        if kind != _VIEW:
            continue
        name, dtype, lengths = rest.rsplit(":", 2)
        shape = tuple(int(length) for length in lengths.split("x") if length)
        shapes = {column: ((repeats, *shape), _stored(np.dtype(dtype)))}
        views[name] = upload(array(table, column, shapes).view(dtype), device).flatten(0, 1)
    keys = array(table, _KEYS, {_KEYS: ((repeats,), np.dtype(np.int64))})
    samples = np.repeat(table["sample"].to_numpy(), repeats)
    return Batch(upload(samples, device), upload(keys, device).flatten(), views)


def _stored(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Arrow packs truth values into bits, which nobody can look at without a copy."""
    return np.dtype(np.uint8) if dtype == np.bool_ else dtype
