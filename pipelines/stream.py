"""The Ray Data graph of a training worker: the one place that assembles it.

Each worker streams its own share: read tasks that fetch and decode a few
global batches ahead of it, in order, on whatever CPU the cluster has free.
One graph covers the run from its cursor to its end, so that nothing stops
at an epoch's end.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from ray.data import DataContext, Datasource, ExecutionResources, ReadTask
from ray.data.block import BlockMetadata

from pipelines.firsts import cut_firsts
from pipelines.memory import keep_freed_memory
from pipelines.order import Order
from pipelines.patience import Patience
from pipelines.pieces import Pieces
from pipelines.read_once import may_keep, read_once
from pipelines.reader import Reader, Rows, Share, cut
from pipelines.reader_config import ReaderConfig
from pipelines.shards import storage
from pipelines.unseen import leave_out_statistics

NICENESS = "RAY_worker_niceness"
"""The variable by which Ray lowers the priority of what it starts; it has 15 of its own."""
# Of a block's bytes: Ray Data copies blocks together up to its target size, and cuts those that
# are half as large again; a block that is a little over the target passes as it is.
_PASSES = 0.8
_SETTLED = 2.0  # seconds; Ray Data's threads look every half of one whether they are wanted
_SEGMENT = 512  # read tasks of one graph: planning them all at once would cost memory
_EMPTY = 32  # stretches without anything to read, looked through before a graph is started


class _ShareSource(Datasource):  # type: ignore[misc]
    def __init__(
        self,
        reader: ray.ObjectRef,
        parts: list[Rows],
        config: ReaderConfig,
        together: int,
        change: ray.ObjectRef | None,
    ):
        super().__init__()
        self._parts = parts
        self._read = partial(_read, reader, config=config, together=together, change=change)

    def get_name(self) -> str:
        return "eagleray"

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, **_: Any) -> list[ReadTask]:
        return [self._task(part) for part in self._parts]

    def _task(self, part: Rows) -> ReadTask:
        rows = part.count
        metadata = BlockMetadata(num_rows=rows, size_bytes=None, exec_stats=None, input_files=None)
        return ReadTask(partial(self._read, part), metadata)


Change = Callable[[pa.Table], pa.Table]
_loaded: dict[str, Any] = {}
_END: Any = object()
_KEPT = 2  # a reader, and what changes its tables


def _load(reference: ray.ObjectRef) -> Any:
    """A process that reads on keeps its reader, with the parts of the index it has read."""
    # Clusters that follow one another in a process number their objects alike.
    name = ray.get_runtime_context().get_node_id() + reference.hex()
    if name not in _loaded:
        while len(_loaded) >= _KEPT:
            _loaded.pop(next(iter(_loaded)))
        _loaded[name] = ray.get(reference)
    return _loaded[name]


def _read(
    reference: ray.ObjectRef,
    part: Rows,
    config: ReaderConfig,
    together: int,
    change: ray.ObjectRef | None,
) -> Iterator[pa.Table]:
    keep_freed_memory()
    storage.persist(config.outage)
    reader: Reader = _load(reference)
    made = _load(change) if change is not None else _same
    blocks = reader.blocks(part, together, config.threads)
    tables = (None if block is None else made(block) for block in blocks)
    while True:
        # Ends the process even where the library that hangs holds the interpreter's lock;
        # the stack goes to the log, and the task starts again in another process.
        faulthandler.dump_traceback_later(config.stalled, exit=True, file=2)
        try:
            table = next(tables, _END)
        finally:
            faulthandler.cancel_dump_traceback_later()
        if table is _END:
            return
        if table is not None:
            yield table


def _same(table: pa.Table) -> pa.Table:
    return table


def stream(
    reader: ray.ObjectRef,
    share: Share,
    config: ReaderConfig,
    change: Change | None = None,
    here: Change | None = None,
) -> Iterator[pa.Table]:
    """Stream a worker's part of every global batch through Ray Data, or out of memory.

    Args:
        reader: Reference of a ``Reader``: every node's tasks share one copy.
        share: Which part of which global batches.
        config: How the reading is spread.
        change: What read tasks make of their tables, if anything, row by row.
        here: The same for this process, which may lack the device of a read task.

    Yields:
        One table a global batch, of ``share.local`` rows, in order.
    """
    loaded: Reader = _load(reader)
    if change is None and may_keep(loaded, share, config.cache):
        with contextlib.closing(_read_blocks(reader, share, config, cut_firsts)) as firsts:
            reached = yield from read_once(loaded, share, Pieces(firsts), config.cache)
        share = replace(share, start=reached)
    blocks = _read_blocks(reader, share, config, cut, change, here or change)
    yield from _rebatch(blocks, share.local)


def _read_blocks(
    reader: ray.ObjectRef,
    share: Share,
    config: ReaderConfig,
    cutting: Callable[[Share, Order, int], Iterator[Rows]],
    change: Change | None = None,
    here: Change | None = None,
) -> Generator[pa.Table, None, None]:
    """Read the parts of a share, in as many graphs as it takes."""
    loaded: Reader = _load(reader)
    size = loaded.row_bytes if here is None else _row_bytes(loaded, share, here)
    kept = None if change is None else ray.put(change)
    parts = cutting(share, loaded.order, config.rows(share, size))
    together = config.together(share.local, size, loaded.quick and change is None)
    block = int(_PASSES * together * share.local * size)
    for segment in _segments(parts):
        source = _ShareSource(reader, segment, config, together, kept)
        yield from _blocks(source, segment, config, block)


def _segments(parts: Iterator[Rows]) -> Iterator[list[Rows]]:
    """Parts of one graph each: so many, or fewer where many have nothing to be read."""
    held: list[Rows] = []
    empty = 0
    for part in parts:
        if part.count:
            held.append(part)
        else:
            empty += 1
        if held and (len(held) == _SEGMENT or empty >= _EMPTY):
            yield held
            held, empty = [], 0
    if held:
        yield held


def _row_bytes(reader: Reader, share: Share, change: Change) -> float:
    """Bytes of a row of changed tables, found by changing a few."""
    start = share.start * share.local
    few = Rows(share, start, start + min(share.local, 4))
    tables = map(change, reader.read(few, 1))
    return max(float(table.nbytes / table.num_rows) for table in tables)


def _blocks(
    source: _ShareSource, parts: list[Rows], config: ReaderConfig, block: int
) -> Iterator[pa.Table]:
    leave_out_statistics()
    # The dataset keeps what it was made with; nothing else in this process is to.
    with DataContext.current(_context(config, block)):
        dataset = ray.data.read_datasource(
            source,
            override_num_blocks=len(parts),
            concurrency=min(config.tasks_ahead, len(parts)),
            num_cpus=config.cpus,
            num_gpus=config.gpus or None,
            ray_remote_args=_priority(config.niceness),
        )
    blocks = dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2)
    others = set(threading.enumerate())
    try:
        yield from iter(blocks)
    finally:
        _settle(others)


def _context(config: ReaderConfig, block: int) -> DataContext:
    """How Ray Data executes a graph."""
    context = DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.execution_options.verbose_progress = False
    context.execution_options.resource_limits = ExecutionResources.for_limits(
        object_store_memory=config.memory
    )
    context.enable_progress_bars = False
    # Would take what waits for its turn in the order for what nobody wants, and stop readers.
    context.downstream_capacity_backpressure_ratio = None
    # Also where rows are texts alone, of which nobody knows how large they are.
    context.target_max_block_size = max(block, config.small)
    context.custom_execution_callback_classes.append(Patience)
    # Standing still is no fault: readers wait out an outage, training an upload.
    context.execution_no_progress_timeout_s = -1
    return context


def _priority(niceness: int) -> dict[str, Any]:
    """Options of read tasks that set their processes' priority, where the one here was set.

    A training worker's is, and what it starts would inherit it. Elsewhere nobody goes first, and
    other options would mean other processes, which import everything again.
    """
    if NICENESS not in os.environ:
        return {}
    return {"runtime_env": {"env_vars": {NICENESS: str(niceness)}}}


def _settle(others: set[threading.Thread]) -> None:
    """Wait for an iteration's threads: one that asks a closed cluster ends the process."""
    deadline = time.monotonic() + _SETTLED
    while (left := deadline - time.monotonic()) > 0:
        mine = (t for t in threading.enumerate() if t not in others and t.name == "iter_threaded")
        thread = next(mine, None)
        if thread is None:
            return
        if thread.is_alive():
            thread.join(left)
        else:  # being started, by whoever iterates: it cannot be joined yet
            time.sleep(0.001)


def _rebatch(blocks: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Undo whatever joining and cutting of blocks happened on the way."""
    pieces = Pieces(blocks)
    while (table := pieces.take(rows)) is not None:
        yield table


def stream_here(reader: Reader, share: Share, config: ReaderConfig) -> Iterator[pa.Table]:
    """The same tables in this process, without Ray: for tests and small jobs."""
    parts = cut(share, reader.order, config.rows(share, reader.row_bytes))
    yield from _rebatch(
        (table for part in parts for table in reader.read(part, config.threads)), share.local
    )
