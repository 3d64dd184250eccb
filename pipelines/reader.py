"""Positions of the global order to tables of decoded samples; no Ray.

A worker's share of global batch b is the positions
``b * global_batch + rank * local ... + local``. A sample that cannot be
decoded is replaced by another one drawn from a hash of its place, so that
the batch stays whole; the table's ``fault`` column says why.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.ahead import AtOnce, one_ahead
from pipelines.core import Config, DataError, Family
from pipelines.core.permutation import Numbers, fold, mix
from pipelines.core.source import RawSample, Source
from pipelines.decode import Decoder, DecoderConfig, SampleError
from pipelines.order import MixedOrder, Order, Shuffle, ShuffledOrder
from pipelines.tables import Arrays, Texts, empty, to_table

SOURCES = Family("pipelines.sources")
_TOGETHER = 8  # samples that a thread decodes before it takes others
SUBSTITUTES = 16  # that many unreadable samples in a row mean that the data set is broken


class DataConfig(Config):
    """The data of a recipe.

    Attributes:
        source: Where samples come from.
        decode: What to decode of them.
        shuffle: How far they are shuffled.
        quarantine_limit: Share of unreadable samples at which a run stops.
    """

    source: Annotated[Config, SOURCES]
    decode: DecoderConfig = DecoderConfig()
    shuffle: Shuffle = Shuffle()
    quarantine_limit: float = 0.01


@dataclass(frozen=True)
class Share:
    """Which part of every global batch is read, and from where to where.

    A worker's rows are numbered through its shares of all global batches from
    the first: row r is row ``r % local`` of batch ``r // local``.

    Attributes:
        global_batch: Samples of a step, over all workers.
        rank: Number of this worker.
        world_size: How many workers; must divide ``global_batch``.
        start: First global batch.
        stop: The one after the last.
    """

    global_batch: int
    rank: int
    world_size: int
    start: int
    stop: int

    @property
    def local(self) -> int:
        """Samples of a step on one worker."""
        return self.global_batch // self.world_size

    def positions(self, batch: int) -> tuple[int, int]:
        """First position of this worker in a global batch, and the one after its last."""
        start = batch * self.global_batch + self.rank * self.local
        return start, start + self.local

    def position(self, row: int) -> int:
        """Position of a row of this worker."""
        batch, place = divmod(row, self.local)
        return self.positions(batch)[0] + place

    def row(self, position: int) -> int:
        """This worker's first row at or after a position."""
        batch, place = divmod(position, self.global_batch)
        return batch * self.local + min(max(place - self.rank * self.local, 0), self.local)


@dataclass(frozen=True)
class Rows:
    """Some neighbouring rows of a share: what one read task reads.

    Attributes:
        share: Of which.
        start: First of its rows.
        stop: The one after the last.
        wanted: Which of them are read. [stop - start]; None: all.
    """

    share: Share
    start: int
    stop: int
    wanted: npt.NDArray[np.bool_] | None = None

    @property
    def count(self) -> int:
        """How many are read."""
        return self.stop - self.start if self.wanted is None else int(self.wanted.sum())

    def batches(self) -> Iterator[tuple[int, int]]:
        """Positions [start, stop) of its rows in each global batch."""
        row = self.start
        while row < self.stop:
            upto = min(self.stop, (row // self.share.local + 1) * self.share.local)
            first = self.share.position(row)
            yield first, first + upto - row
            row = upto

    def places(self, order: Order) -> list[tuple[Numbers, Numbers]]:
        """Epochs and sample numbers of what is read, a batch's worth at a time."""
        found = [order.at(first, end) for first, end in self.batches()]
        if self.wanted is None or not found:
            return found
        epochs, samples = (np.concatenate(each)[self.wanted] for each in zip(*found, strict=True))
        starts = range(0, len(samples), self.share.local)
        cuts = (slice(start, start + self.share.local) for start in starts)
        return [(epochs[rows], samples[rows]) for rows in cuts]


def cut(share: Share, order: Order, rows: int) -> Iterator[Rows]:
    """Cut a share into parts of about ``rows`` rows, at the boundaries of its order.

    A part that holds whole windows fetches each byte of them once.
    """
    row, end = share.start * share.local, share.stop * share.local
    while row < end:
        target = min(row + rows, end)
        if target < end:
            bounded = share.row(order.boundary(share.position(target)))
            target = bounded if bounded > row else target
        yield Rows(share, row, target)
        row = target


@dataclass(frozen=True)
class _Batch:
    """A batch that is being decoded, and whether it is the last of its block."""

    epochs: Numbers
    samples: Numbers
    raws: list[RawSample]
    arrays: Arrays
    jobs: list[Future[list[Texts | SampleError]]]
    block: Arrays
    ends: bool


@dataclass(frozen=True)
class _Done:
    """What a decoded batch is besides its arrays, row by row."""

    epochs: Numbers
    samples: Numbers
    keys: list[str]
    faults: list[str]
    texts: list[Texts]


class Reader:
    """Reads and decodes positions of a data set in its global order. Pickles.

    Args:
        source: An opened source.
        data: Decoding and shuffling.
        seed: The run's seed.
    """

    def __init__(self, source: Source, data: DataConfig, seed: int):
        self.source = source
        self._decode = Decoder(data.decode)
        self._order: Order | None = None
        self._shuffle, self._seed = data.shuffle, seed

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_order": None}  # its caches are local

    @property
    def order(self) -> Order:
        """The global order."""
        if self._order is None:
            self._order = order_of(self.source, self._shuffle, self._seed)
        return self._order

    @property
    def row_bytes(self) -> int:
        """Bytes of a decoded row's arrays."""
        return self._decode.row_bytes

    @property
    def quick(self) -> bool:
        """Whether samples are pictures and texts, of which each takes about a millisecond."""
        config = self._decode.config
        return config.video is None and config.audio is None and config.document is None

    @property
    def decoder(self) -> Decoder:
        """What decodes its samples."""
        return self._decode

    def batches(self, share: Share) -> Iterator[pa.Table]:
        """Read a worker's part of some global batches.

        Yields:
            One table a batch, rows in the order of positions.
        """
        return self.read(Rows(share, share.start * share.local, share.stop * share.local))

    def read(self, rows: Rows, threads: int = 1) -> Iterator[pa.Table]:
        """Read some rows of a share, fetching far ahead of decoding.

        Args:
            rows: Which rows.
            threads: How many decode. One is the caller's own; several decode the next batch
                while one is handed over.

        Yields:
            The rows of one global batch at a time, in the order of positions.

        Raises:
            DataError: Sample after sample is unreadable.
            StorageError: A shard cannot be read.
        """
        return (table for table in self.blocks(rows, 1, threads) if table is not None)

    def blocks(self, rows: Rows, batches: int, threads: int = 1) -> Iterator[pa.Table | None]:
        """Read as ``read`` does, into tables of several global batches.

        Args:
            rows: Which rows.
            batches: So many to a table; the last one has what is left.
            threads: As in ``read``.

        Yields:
            After each batch: a table where it completes one, None where not.

        Raises:
            DataError: As ``read``.
            StorageError: As ``read``.
        """
        places = rows.places(self.order)
        if not places:
            return
        raws = iter(self.source.read(np.concatenate([samples for _, samples in places])))
        pool = ThreadPoolExecutor(threads, "decode") if threads > 1 else AtOnce()
        blocks = (places[at : at + batches] for at in range(0, len(places), batches))
        begun = (batch for block in blocks for batch in self._begin(pool, block, raws))
        done: list[_Done] = []
        try:
            for batch in one_ahead(begun) if threads > 1 else begun:
                done.append(self._finish(batch))
                yield _table(done, batch.block) if batch.ends else None
                done = [] if batch.ends else done
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _begin(
        self, pool: Executor, block: list[tuple[Numbers, Numbers]], raws: Iterator[RawSample]
    ) -> Iterator[_Batch]:
        """Begin the batches of a block, one after the other, in arrays of it all."""
        whole = empty(self._decode.shapes, sum(len(samples) for _, samples in block))
        row = 0
        for number, (epochs, samples) in enumerate(block, 1):
            arrays = {name: array[row : row + len(samples)] for name, array in whole.items()}
            row += len(samples)
            state = mix(fold((self._seed,)) ^ epochs.view(np.uint64))
            keys = mix(state ^ samples.view(np.uint64))  # as ``randomness.sample_keys``
            held = list(itertools.islice(raws, len(samples)))
            jobs = [
                pool.submit(self._fill, held[start : start + _TOGETHER], arrays, keys, start)
                for start in range(0, len(held), _TOGETHER)
            ]
            yield _Batch(epochs, samples, held, arrays, jobs, whole, number == len(block))

    def _fill(
        self, raws: list[RawSample], arrays: Arrays, keys: npt.NDArray[np.uint64], start: int
    ) -> list[Texts | SampleError]:
        """Decode neighbours into rows of a batch: texts of each, or why there are none."""
        done: list[Texts | SampleError] = []
        for place, raw in enumerate(raws, start):
            try:
                done.append(self._decode.fill(raw, _row(arrays, place), int(keys[place])))
            except SampleError as error:
                done.append(error)
        return done

    def _finish(self, batch: _Batch) -> _Done:
        delivered, keys, faults, texts = batch.samples.copy(), [], [], []
        done = itertools.chain.from_iterable(job.result() for job in batch.jobs)
        for place, (raw, read) in enumerate(zip(batch.raws, done, strict=True)):
            key, fault = raw.key, ""
            if isinstance(read, SampleError):
                first = {"shard": raw.shard, "key": raw.key, "reason": str(read)}
                epoch, sample = int(batch.epochs[place]), int(batch.samples[place])
                row = _row(batch.arrays, place)
                delivered[place], key, read, fault = self._instead(row, epoch, sample, first)
            keys.append(key)
            faults.append(fault)
            texts.append(read)
        return _Done(batch.epochs, delivered, keys, faults, texts)

    def _instead(
        self, row: Arrays, epoch: int, sample: int, first: dict[str, str]
    ) -> tuple[int, str, Texts, str]:
        """Another sample for one that is unreadable: its number, key, texts, and all faults."""
        faults = [first]
        for attempt in range(SUBSTITUTES):
            sample = substitute(self.order, epoch, sample, attempt)
            raw = next(iter(self.source.read(np.array([sample], dtype=np.int64))))
            key = int(fold((self._seed, epoch, sample))[0])
            try:
                return sample, raw.key, self._decode.fill(raw, row, key), json.dumps(faults)
            except SampleError as error:
                faults.append({"shard": raw.shard, "key": raw.key, "reason": str(error)})
        raise DataError(
            f"{first['shard']}: {len(faults)} samples tried, none readable; "
            f"{first['key']}: {first['reason']}"
        )


def _table(done: list[_Done], arrays: Arrays) -> pa.Table:
    """The table of neighbouring batches."""
    columns = {
        "epoch": pa.array(np.concatenate([batch.epochs for batch in done])),
        "sample": pa.array(np.concatenate([batch.samples for batch in done])),
        "key": pa.array([key for batch in done for key in batch.keys], pa.string()),
        "fault": pa.array([fault for batch in done for fault in batch.faults], pa.string()),
    }
    return to_table(columns, [texts for batch in done for texts in batch.texts], arrays)


def _row(arrays: Arrays, place: int) -> Arrays:
    return {name: array[place] for name, array in arrays.items()}


def order_of(source: Source, shuffle: Shuffle, seed: int) -> Order:
    """The order of a source's samples: of one data set, or of a mixture."""
    parts = source.parts
    if len(parts) == 1:
        return ShuffledOrder(parts[0].size, seed, shuffle)
    return MixedOrder([p.size for p in parts], [p.weight for p in parts], seed, shuffle)


def substitute(order: Order, epoch: int, sample: int, attempt: int) -> int:
    """The number of another sample for one that is unreadable, of up to ``SUBSTITUTES``."""
    return int(fold((order.seed, epoch, sample, attempt))[0] % np.uint64(order.size))


def open_source(config: Config, **options: object) -> Source:
    """Open a source from its config."""
    source: Source = SOURCES.build(config, **options)
    return source
