"""Streams an epoch exactly as training would, and audits what came."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import ray

from cluster.skipped import read_skipped
from pipelines.ahead import Ahead
from pipelines.core import Config, ConfigError, DataError, validate
from pipelines.core.config import load_yaml
from pipelines.ledger import Audit, Ledger
from pipelines.reader import DataConfig, Reader, Share, open_source
from pipelines.reader_config import ReaderConfig
from pipelines.shards import storage
from pipelines.shards.index_tasks import scan_on_cluster
from pipelines.stream import stream
from trainers.checkpoint import latest
from trainers.delivered import delivered
from trainers.model import RECIPE
from trainers.recipe import load_recipe, override, parse_recipe, shipped


def is_run(url: str) -> bool:
    """Whether a run is there: it keeps its recipe."""
    return "*" not in url and "{" not in url and storage.exists(storage.join(url, RECIPE))


class Streamed(Config):
    """What decides the order and the content of batches, of everything in a recipe.

    Attributes:
        data: Source, decoding and shuffling.
        seed: Of the order.
        global_batch: Samples of a step, over all workers.
    """

    data: DataConfig
    seed: int = 0
    global_batch: int = 256


@dataclass(frozen=True)
class Legs:
    """How an epoch is read: by some workers up to a sample, then by others.

    Attributes:
        workers: At first.
        stop_at: Samples after which they stop, rounded down to whole batches; None: never.
        resume_with: Workers that go on.
    """

    workers: int
    stop_at: int | None = None
    resume_with: int | None = None

    def shares(self, batch: int, steps: int) -> list[list[Share]]:
        """Each leg's shares, one a worker.

        Raises:
            ConfigError: A worker count does not divide the global batch.
        """
        stop = steps if self.stop_at is None else min(self.stop_at // batch, steps)
        legs = [(self.workers, 0, stop)]
        if stop < steps:
            legs.append((self.resume_with or self.workers, stop, steps))
        for workers, _, _ in legs:
            if batch % workers:
                raise ConfigError(f"{workers} workers do not divide the global batch of {batch}")
        return [
            [Share(batch, rank, workers, start, end) for rank in range(workers)]
            for workers, start, end in legs
            if end > start
        ]


def describe(name: str, overrides: tuple[str, ...]) -> Streamed:
    """What to stream: a recipe's data, or tars of which nothing is decoded.

    Args:
        name: A shipped recipe's name, a YAML file, or a URL pattern of tars.
        overrides: ``path.to.key=value`` each.
    """
    if name in shipped() or name.endswith((".yaml", ".yml")):
        recipe = load_recipe(name, overrides)
        return Streamed(data=recipe.data, seed=recipe.seed, global_batch=recipe.global_batch)
    plain = {"data": {"source": {"kind": "webdataset", "url": name}, "decode": {"size": None}}}
    return validate(Streamed, override(plain, overrides), "verify")


def verify(
    streamed: Streamed,
    legs: Legs,
    config: ReaderConfig,
    note: Callable[[str], object],
    watch: Callable[[int, int], object],
) -> dict[str, Any]:
    """Stream one epoch through Ray Data and audit it.

    Args:
        streamed: What to stream.
        legs: By how many workers.
        config: How reading is spread.
        note: Called with every delivered key, in order.
        watch: Called with (delivered, of how many).

    Returns:
        The audit, with seconds and rate.

    Raises:
        DataError: More samples are unreadable than ``data.quarantine_limit`` allows.
    """
    source = open_source(streamed.data.source, scan=scan_on_cluster)
    reader = Reader(source, streamed.data, streamed.seed)
    size, batch = reader.order.size, streamed.global_batch
    shares = legs.shares(batch, -(-size // batch))
    reference = ray.put(reader)
    ledger = Ledger(reader.order, size, note)
    started = time.perf_counter()
    every = config.model_copy(update={"cache": 0})  # nothing is taken for read that was not
    for number, table in enumerate(_batches(reference, shares, every), 1):
        ledger.take(table)
        watch(min(number * batch, size), size)
    seconds = time.perf_counter() - started
    audit = ledger.audit()
    _check_quarantine(audit, streamed.data.quarantine_limit)
    damaged = [asdict(fault) for fault in source.faults]
    return {
        **asdict(audit),
        "exact": audit.exact,
        "shards": source.shards,
        "damaged_shards": damaged,
        "seconds": seconds,
        "samples_per_second": size / seconds,
    }


def verify_run(run: str, note: Callable[[str], object]) -> dict[str, Any]:
    """Audit what a run's last commit was trained on, from the ledger that it kept.

    Args:
        run: URL of a run whose profile said ``ledger: true``.
        note: Called with every delivered key, in order.

    Returns:
        The audit, with the samples of batches that made no update: their loss was not finite.

    Raises:
        UserError: The run has no commit or no ledger, or its data set changed.
    """
    found = latest(run)
    if found is None:
        raise ConfigError(f"{run}: holds no commit")
    place = storage.join(run, RECIPE)
    recipe = parse_recipe(load_yaml(storage.read_text(place), place), place)
    source = open_source(recipe.data.source, fallback=run)
    if source.digest != found.state().data:
        raise DataError(f"{run}: the data set changed since the run's last commit")
    ledger = Ledger(Reader(source, recipe.data, recipe.seed).order, found.samples, note)
    for part in delivered(run, found.samples):
        ledger.take(part)
    audit = ledger.audit()
    return {
        **asdict(audit),
        "exact": audit.exact,
        "shards": source.shards,
        "damaged_shards": [],
        "left_out": read_skipped(run).before(found.samples),
    }


def _batches(
    reference: ray.ObjectRef, legs: list[list[Share]], config: ReaderConfig
) -> Iterator[pa.Table]:
    """Global batches: the workers' parts put together in order of rank."""
    for shares in legs:
        streams = [
            iter(Ahead(stream(reference, share, config), patience=config.deadline))
            for share in shares
        ]
        for parts in zip(*streams, strict=True):
            yield pa.concat_tables(parts)


def _check_quarantine(audit: Audit, limit: float) -> None:
    if audit.unreadable > limit * audit.samples:
        first = audit.faults[0]
        raise DataError(
            f"{audit.unreadable} of {audit.samples} samples are unreadable, over "
            f"data.quarantine_limit {limit}; first {first.key} in {first.shard}: {first.reason}"
        )
