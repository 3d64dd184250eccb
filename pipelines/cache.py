"""Decoded samples that a worker keeps, so that it reads each of them once.

Where all of a data set have room and are decoded alike in every epoch, a worker's later epochs
come from its memory. What is left to read is a function of the order alone: a sample is read where
it first stands in the worker's share, so readers are as far ahead as ever.

Letters: N samples of the data set, B rows.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core.permutation import Numbers
from pipelines.order import Order
from pipelines.reader import Reader, Rows, Share, cut

Mask = npt.NDArray[np.bool_]
_OBJECT = 64  # bytes of a string or a list beside its letters, and of its place
_FEW = 64  # samples of which it is told how long texts are
_ASIDE = ("epoch", "sample", "fault")  # columns that follow from the order


class Firsts:
    """Tells which samples have not come before.

    Args:
        size: N.
    """

    def __init__(self, size: int):
        self._seen = np.zeros(size, bool)
        self._left = size

    def take(self, samples: Numbers) -> Mask:
        """Whether each of some samples comes for the first time. [B], [B]."""
        first = np.zeros(len(samples), bool)
        first[np.unique(samples, return_index=True)[1]] = True
        first &= ~self._seen[samples]
        self._seen[samples] = True
        self._left -= int(first.sum())
        return first

    @property
    def complete(self) -> bool:
        """Whether all have come."""
        return self._left == 0


def cut_firsts(share: Share, order: Order, rows: int) -> Iterator[Rows]:
    """Cut a share as ``cut`` does, into parts of what comes there for the first time.

    Those that have little of it are joined.
    """
    firsts, start, count = Firsts(order.size), 0, 0
    masks: list[Mask] = []
    for part in cut(share, order, rows):
        mask = firsts.take(np.concatenate([samples for _, samples in part.places(order)]))
        if not count:
            start, masks = part.start, []
        masks.append(mask)
        count += int(mask.sum())
        ends = firsts.complete or part.stop == share.stop * share.local
        if count and (2 * count >= rows or ends):
            yield Rows(share, start, part.stop, np.concatenate(masks))
            count = 0
        if ends:
            return


def cached_bytes(reader: Reader, share: Share, limit: int) -> int:
    """Bytes of memory that keeping all samples takes, about; 0 where they are not kept.

    They are not where they would take more than ``limit``, none comes twice, or each epoch
    decodes them differently, as other pieces of films.

    Raises:
        DataError: As ``Reader.read``, of the few samples whose texts are looked at.
        StorageError: As there.
    """
    size = reader.order.size
    comes_once = (share.stop - share.start) * share.global_batch <= size
    least = size * (reader.row_bytes + 2 * _OBJECT)
    if comes_once or not reader.steady or least > limit:
        return 0
    if not reader.has_texts:
        return least
    start = share.start * share.local
    few = Rows(share, start, start + min(_FEW, size, (share.stop - share.start) * share.local))
    tables = list(reader.read(few))
    found = size * sum(map(_bytes, tables)) // sum(table.num_rows for table in tables)
    return found if found <= limit else 0


def _bytes(table: pa.Table) -> int:
    """Bytes that a table's rows take where they are kept."""
    kept = [name for name in table.column_names if name not in _ASIDE]
    objects = sum(not pa.types.is_fixed_size_list(table.schema.field(name).type) for name in kept)
    return int(table.select(kept).nbytes) + (objects + 1) * _OBJECT * int(table.num_rows)


class SampleCache:
    """Rows of tables by the numbers of their samples.

    Args:
        size: N.
    """

    def __init__(self, size: int):
        self._size = size
        self._held = np.zeros(size, bool)
        self._columns: dict[str, npt.NDArray[Any]] = {}
        self._schema = pa.schema([])
        self.nbytes = 0

    def put(self, samples: Numbers, table: pa.Table) -> None:
        """Keep the rows of samples but those that others stand in for. [B], B rows."""
        good = pc.equal(table["fault"], "").to_numpy()
        self._schema = table.schema
        for name in table.column_names:
            if name in _ASIDE:
                continue
            rows = _rows(table[name])
            if name not in self._columns:
                # Pages that nothing is written to take no memory.
                self._columns[name] = np.empty((self._size, *rows.shape[1:]), rows.dtype)
            self._columns[name][samples[good]] = rows[good]
        self._held[samples[good]] = True
        self.nbytes += _bytes(table)

    def has(self, samples: Numbers) -> Mask:
        """Whether each of some samples is kept. [B], [B]."""
        return self._held[samples]

    def table(self, epochs: Numbers, samples: Numbers) -> pa.Table:
        """The rows of samples that are kept, as read in these epochs. [B], [B]."""
        columns = {"epoch": epochs, "sample": samples, "fault": [""] * len(samples)}
        for name, kept in self._columns.items():
            columns[name] = kept[samples]
        arrays = (_column(columns[field.name], field.type) for field in self._schema)
        return pa.table(list(arrays), schema=self._schema)


def _rows(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """A column, rows first: numbers [B, W], or objects [B]."""
    if pa.types.is_fixed_size_list(column.type):
        # Putting one chunk together would copy it.
        whole = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        return np.asarray(whole.flatten().to_numpy().reshape(-1, column.type.list_size))
    rows = np.empty(len(column), object)
    for place, value in enumerate(column.to_pylist()):
        rows[place] = value
    return rows


def _column(rows: Any, kind: pa.DataType) -> pa.Array:
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), type=kind)
    return pa.array(rows, kind)


class Taking(Protocol):
    """Where rows come from that have been read; see ``pipelines.pieces``."""

    def take(self, rows: int) -> pa.Table | None:
        """The next rows, in one table; None where there are not so many."""
        ...


def read_once(
    reader: Reader, share: Share, read: Taking, limit: int
) -> Generator[pa.Table, None, int]:
    """Yield a worker's part of each global batch, of what is read and what was.

    Args:
        reader: Reads again what was unreadable, here.
        share: Which part of which global batches.
        read: The rows of ``cut_firsts``, read.
        limit: Bytes to be kept.

    Yields:
        One table a global batch, equal to what reading all of it gives.

    Returns:
        The first global batch that has not come: the end, or where too much was kept, since texts
        are longer than the first ones.
    """
    cache, firsts, reading = SampleCache(reader.order.size), Firsts(reader.order.size), True
    for batch in range(share.start, share.stop):
        epochs, samples = reader.order.at(*share.positions(batch))
        new = firsts.take(samples)
        table = read.take(int(new.sum())) if new.any() else None
        if table is None and new.any():
            return batch
        if table is not None:
            cache.put(samples[new], table)
        if reading and firsts.complete:
            reading = read.take(1) is not None  # asked for more, those who read end
        yield table if new.all() else _whole(reader, cache, share, batch, epochs, samples)
        if cache.nbytes > limit:
            return batch + 1
    return share.stop


def _whole(
    reader: Reader, cache: SampleCache, share: Share, batch: int, epochs: Numbers, samples: Numbers
) -> pa.Table:
    """A batch out of memory, but for what was unreadable: others stand in for it in each epoch."""
    held = cache.has(samples)
    if held.all():
        return cache.table(epochs, samples)
    start = batch * share.local
    parts = [cache.table(epochs[held], samples[held])] if held.any() else []
    others = np.flatnonzero(~held)
    for row in (start + others).tolist():
        parts += reader.read(Rows(share, row, row + 1))
    places = np.argsort(np.concatenate([np.flatnonzero(held), others]))
    return pa.concat_tables(parts).combine_chunks().take(pa.array(places))
