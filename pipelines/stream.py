"""The Ray Data graph of a training worker: the one place that assembles it.

Each worker streams its own share: read tasks that fetch and decode a few
global batches ahead of it, in order, on whatever CPU the cluster has free.
One graph covers the run from its cursor to its end, so that nothing stops
at an epoch's end.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from pydantic import Field
from ray.data import DataContext, Datasource, ExecutionResources, ReadTask
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data.block import BlockMetadata

from pipelines.core import Config
from pipelines.reader import Reader, Share

_PAUSE = 0.1  # seconds; short against the time that one waiting block lasts
_BLINK = 0.02  # seconds; short against the time that a read task takes
_SEGMENT = 2048  # read tasks of one graph: planning them all at once would cost memory


class ReaderConfig(Config):
    """How a worker's reading is spread; nothing here changes what it reads.

    Attributes:
        batches_per_task: Global batches that one read task fetches together.
        tasks_ahead: Read tasks in flight for one worker.
        cpus: Logical CPUs that a read task occupies.
        memory: Bytes of decoded batches that wait for one worker; without a bound
            readers would run ahead until the object store is full.
    """

    batches_per_task: int = Field(default=8, ge=1)
    tasks_ahead: int = Field(default=2, ge=1)
    cpus: float = Field(default=0.25, ge=0)
    memory: int = Field(default=256 << 20, ge=1 << 20)


class _Patience(ExecutionCallback):  # type: ignore[misc]
    """Lets the executor's loop sleep while there is nothing for it to do.

    The loop does not wait by itself once readers are as far ahead as they may
    be: it spun, and took half a core from the training step in its process.
    """

    def __init__(self) -> None:
        self._woke = time.monotonic()

    def on_execution_step(self, executor: Any) -> None:
        if not executor._consumer_idling():
            time.sleep(_PAUSE)
        elif time.monotonic() - self._woke < _BLINK:  # the step waited for nothing
            time.sleep(_BLINK)
        self._woke = time.monotonic()


class _ShareSource(Datasource):  # type: ignore[misc]
    def __init__(self, reader: ray.ObjectRef, parts: list[Share]):
        super().__init__()
        self._reader, self._parts = reader, parts

    def get_name(self) -> str:
        return "eagleray"

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, **_: Any) -> list[ReadTask]:
        return [self._task(part) for part in self._parts]

    def _task(self, part: Share) -> ReadTask:
        rows = (part.stop - part.start) * part.local
        metadata = BlockMetadata(num_rows=rows, size_bytes=None, exec_stats=None, input_files=None)
        return ReadTask(partial(_read, self._reader, part), metadata)


def _read(reader: ray.ObjectRef, part: Share) -> Iterator[pa.Table]:
    loaded: Reader = ray.get(reader)
    yield from loaded.batches(part)


def split(share: Share, batches: int) -> list[Share]:
    """Cut a share into parts of at most ``batches`` global batches."""
    starts = range(share.start, share.stop, batches)
    return [replace(share, start=s, stop=min(s + batches, share.stop)) for s in starts]


def stream(reader: ray.ObjectRef, share: Share, config: ReaderConfig) -> Iterator[pa.Table]:
    """Stream a worker's part of every global batch through Ray Data.

    Args:
        reader: Reference of a ``Reader``: every node's tasks share one copy.
        share: Which part of which global batches.
        config: How the reading is spread.

    Yields:
        One table a global batch, of ``share.local`` rows, in order.
    """
    parts = split(share, config.batches_per_task)
    for first in range(0, len(parts), _SEGMENT):
        segment = parts[first : first + _SEGMENT]
        yield from _rebatch(_blocks(reader, segment, config), share.local)


def _blocks(reader: ray.ObjectRef, parts: list[Share], config: ReaderConfig) -> Iterator[pa.Table]:
    context = DataContext.get_current()
    context.execution_options.preserve_order = True
    context.execution_options.verbose_progress = False
    context.execution_options.resource_limits = ExecutionResources.for_limits(
        object_store_memory=config.memory
    )
    context.enable_progress_bars = False
    if _Patience not in context.custom_execution_callback_classes:
        context.custom_execution_callback_classes.append(_Patience)
    dataset = ray.data.read_datasource(
        _ShareSource(reader, parts),
        override_num_blocks=len(parts),
        concurrency=min(config.tasks_ahead, len(parts)),
        num_cpus=config.cpus,
    )
    blocks = dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2)
    yield from iter(blocks)


def _rebatch(blocks: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Undo whatever joining and cutting of blocks happened on the way."""
    held: list[pa.Table] = []
    count = 0
    for block in blocks:
        held.append(block)
        count += block.num_rows
        if count < rows:
            continue
        table = pa.concat_tables(held)
        for start in range(0, count - rows + 1, rows):
            yield table.slice(start, rows)
        held, count = [table.slice(count - count % rows)], count % rows


def stream_here(reader: Reader, share: Share, config: ReaderConfig) -> Iterator[pa.Table]:
    """The same tables in this process, without Ray: for tests and small jobs."""
    for part in split(share, config.batches_per_task):
        yield from reader.batches(part)
