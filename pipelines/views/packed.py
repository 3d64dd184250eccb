"""Views as columns of a table: how a batch travels that was augmented where it was read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
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

    A view's shape and type are part of its column's name, which whatever cuts and joins tables
    on the way leaves alone.
    """
    columns = {name: table[name] for name in _KEPT}
    columns[_KEYS] = pa.array(batch.keys.cpu().numpy())
    for name, view in batch.views.items():
        numbers = view.cpu().contiguous().numpy()
        size = int(np.prod(numbers.shape[1:], dtype=np.int64))
        shape = "x".join(str(length) for length in numbers.shape[1:])
        flat = pa.array(numbers.reshape(-1).view(_stored(numbers.dtype)))
        column = pa.FixedSizeListArray.from_arrays(flat, size)
        columns[f"{_VIEW}:{name}:{numbers.dtype}:{shape}"] = column
    return pa.table(columns)


def unpack(table: pa.Table, device: torch.device) -> Batch:
    """Take a table of views apart; a copy, on the training device."""
    views = {}
    for column in table.column_names:
        kind, _, rest = column.partition(":")
        if kind != _VIEW:
            continue
        name, dtype, lengths = rest.rsplit(":", 2)
        shape = tuple(int(length) for length in lengths.split("x") if length)
        numbers = array(table, column, {column: (shape, _stored(np.dtype(dtype)))}).view(dtype)
        views[name] = upload(numbers, device)
    samples, keys = (upload(table[name].to_numpy(), device) for name in ("sample", _KEYS))
    return Batch(samples, keys, views)


def _stored(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Arrow packs truth values into bits, which nobody can look at without a copy."""
    return np.dtype(np.uint8) if dtype == np.bool_ else dtype
