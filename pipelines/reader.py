"""Positions of the global order to tables of decoded samples; no Ray.

A worker's share of global batch b is the positions
``b * global_batch + rank * local ... + local``. A sample that cannot be
decoded is replaced by another one drawn from a hash of its place, so that
the batch stays whole; the table's ``fault`` column says why.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.core import Config, DataError, Family
from pipelines.core.source import RawSample, Source
from pipelines.decode import Decoder, DecoderConfig, SampleError
from pipelines.decode.sample import Sample
from pipelines.order import Order, Shuffle, mix

SOURCES = Family("pipelines.sources")
_SUBSTITUTES = 16  # that many unreadable samples in a row mean that the data set is broken


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
            chunks = self.source.chunks(self._shuffle.chunk)
            self._order = Order(chunks, self._seed, self._shuffle.window)
        return self._order

    def batches(self, share: Share) -> Iterator[pa.Table]:
        """Read a worker's part of some global batches, fetching all of them at once.

        Yields:
            One table a batch, rows in the order of positions.

        Raises:
            DataError: Sample after sample is unreadable.
            StorageError: A shard cannot be read.
        """
        places = [self.order.at(*share.positions(b)) for b in range(share.start, share.stop)]
        wanted = np.concatenate([samples for _, samples in places])
        raws = self.source.read(wanted)
        for epochs, samples in places:
            rows = [
                self._row(raw, int(e), int(s))
                for e, s, raw in zip(epochs, samples, raws, strict=False)
            ]
            yield _table(epochs, rows)

    def _row(self, raw: RawSample, epoch: int, sample: int) -> tuple[int, Sample, str]:
        faults: list[dict[str, str]] = []
        for attempt in range(_SUBSTITUTES):
            try:
                fault = json.dumps(faults) if faults else ""
                return sample, self._decode(raw), fault
            except SampleError as error:
                faults.append({"shard": raw.shard, "key": raw.key, "reason": str(error)})
            sample = _substitute(self.order, epoch, sample, attempt)
            raw = next(iter(self.source.read(np.array([sample], dtype=np.int64))))
        first = faults[0]
        raise DataError(
            f"{first['shard']}: {_SUBSTITUTES} samples tried, none readable; "
            f"{first['key']}: {first['reason']}"
        )


def _substitute(order: Order, epoch: int, sample: int, attempt: int) -> int:
    words = np.array([order.seed, epoch, sample, attempt], dtype=np.int64).astype(np.uint64)
    state = words[:1]
    for word in words[1:]:
        state = mix(state ^ word)
    return int(mix(state)[0] % np.uint64(order.size))


def _table(epochs: npt.NDArray[np.int64], rows: list[tuple[int, Sample, str]]) -> pa.Table:
    columns: dict[str, pa.Array] = {
        "epoch": pa.array(epochs),
        "sample": pa.array([sample for sample, _, _ in rows], pa.int64()),
        "fault": pa.array([fault for _, _, fault in rows], pa.string()),
    }
    first = rows[0][1]
    for name in first.texts:
        columns[f"text.{name}"] = pa.array([row.texts[name] for _, row, _ in rows], pa.string())
    if first.image is not None:
        images = np.stack([row.image for _, row, _ in rows if row.image is not None])
        flat = pa.array(images.reshape(-1))
        columns["image"] = pa.FixedSizeListArray.from_arrays(flat, images[0].size)
    return pa.table(columns)


def open_source(config: Config, **options: object) -> Source:
    """Open a source from its config."""
    source: Source = SOURCES.build(config, **options)
    return source
