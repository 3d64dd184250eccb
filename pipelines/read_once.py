"""A worker's share of which each sample is read once: what came before is taken from memory.

What is left to read is a function of the order alone (``pipelines.firsts``), so readers are as far
ahead as ever.

Letters: B rows of a worker's part of a global batch.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

from pipelines.cache import SampleCache, table_bytes
from pipelines.core.permutation import Numbers
from pipelines.decode import Decoder
from pipelines.firsts import Firsts, Mask
from pipelines.reader import Reader, Rows, Share

_KEY = 64  # bytes of a sample's key, at least
_PAYS = 0.9  # of what is seen: where more is read all the same, nothing is kept
_FEW = 64  # samples of which it is told how long texts are


class Taking(Protocol):
    """Where rows come from that have been read; see ``pipelines.pieces``."""

    def take(self, rows: int) -> pa.Table | None:
        """The next rows, in one table; None where there are not so many."""
        ...


def read_share(workers: int, epochs: float) -> float:
    """Share of the samples that workers see which is read, where each keeps what it has read.

    Every worker meets other samples in each epoch, so that several read most of them again.
    """
    if epochs <= 1:
        return 1.0
    missed = float((1 - 1 / workers) ** epochs)  # of the data set, by each
    return min(1.0, workers * (1 - missed) / epochs)


def least_bytes(decoder: Decoder, samples: int, seen: int, workers: int, limit: int) -> int:
    """Bytes that a worker's keeping takes in the end, were texts empty; 0 where none are kept.

    Not where it takes more than ``limit``, hardly less is read for it, or each epoch decodes
    samples differently, as other pieces of films.

    Args:
        decoder: Of what samples are made.
        samples: Of the data set.
        seen: Samples that all workers are to see, as often as they come.
        workers: How many share them.
        limit: Bytes that a worker may keep.
    """
    least = samples * (decoder.row_bytes + _KEY)
    pays = read_share(workers, seen / max(1, samples)) <= _PAYS
    return least if pays and decoder.steady and least <= limit else 0


def may_keep(reader: Reader, share: Share, limit: int) -> bool:
    """Whether a worker may keep what it reads; its texts are not looked at yet."""
    seen = (share.stop - share.start) * share.global_batch
    found = least_bytes(reader.decoder, reader.order.size, seen, share.world_size, limit)
    return found > 0


def cached_bytes(reader: Reader, share: Share, limit: int) -> int:
    """Bytes of memory that keeping all samples takes, about; 0 where they are not kept.

    Raises:
        DataError: As ``Reader.read``, of the few samples whose texts are looked at.
        StorageError: As there.
    """
    if not may_keep(reader, share, limit):
        return 0
    size, start = reader.order.size, share.start * share.local
    few = Rows(share, start, start + min(_FEW, size, (share.stop - share.start) * share.local))
    tables = list(reader.read(few))
    found = size * sum(map(table_bytes, tables)) // sum(table.num_rows for table in tables)
    return found if found <= limit else 0


def read_once(
    reader: Reader, share: Share, read: Taking, limit: int
) -> Generator[pa.Table, None, int]:
    """Yield a worker's part of each global batch, of what is read and what was.

    Args:
        reader: Reads here what stands in for a sample that is unreadable, where this worker has
            not met that one.
        share: Which part of which global batches.
        read: The rows of ``cut_firsts``, read.
        limit: Bytes to be kept.

    Yields:
        One table a global batch, equal to what reading all of it gives.

    Returns:
        The first global batch that has not come: the end, or where all would be too much to keep,
        by the texts that have come.
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
        if table is None or not new.all():
            wanted = _Wanted(share, batch * share.local, epochs, samples, new)
            table = _put_together(reader, cache, wanted, table)
        yield table
        if cache.tells and cache.projected > limit:
            return batch + 1
    return share.stop


@dataclass(frozen=True)
class _Wanted:
    """A worker's part of a global batch: from which row of the share on, and which are new."""

    share: Share
    row: int
    epochs: Numbers
    samples: Numbers
    new: Mask


def _put_together(
    reader: Reader, cache: SampleCache, wanted: _Wanted, read: pa.Table | None
) -> pa.Table:
    """A batch out of memory, but for what stands in for the unreadable and is not there."""
    if cache.has(wanted.samples).all():
        return cache.table(wanted.epochs, wanted.samples)
    pairs = zip(wanted.epochs.tolist(), wanted.samples.tolist(), strict=True)
    found = [cache.find(reader.order, epoch, sample) for epoch, sample in pairs]
    there = np.array([one is not None for one in found], bool)
    kept = [one for one in found if one is not None]
    parts = []
    if kept:
        numbers = np.array([number for number, _ in kept], np.int64)
        parts.append(cache.table(wanted.epochs[there], numbers, [fault for _, fault in kept]))
    for place in np.flatnonzero(~there).tolist():
        if read is not None and wanted.new[place]:
            parts.append(read.slice(int(wanted.new[:place].sum()), 1))
        else:
            row = wanted.row + place
            parts += reader.read(Rows(wanted.share, row, row + 1))
    places = np.argsort(np.concatenate([np.flatnonzero(there), np.flatnonzero(~there)]))
    return pa.concat_tables(parts).combine_chunks().take(pa.array(places))
