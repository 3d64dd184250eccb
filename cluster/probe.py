"""A trial of a recipe's step on this machine, in the processes that a run would have."""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import torch
import torch.distributed as dist

from cluster.plan import Measured, Trial, sizes_of
from cluster.prepare import train_tokenizer
from cluster.profile import Profile, check_fit
from pipelines.available import available_cores
from pipelines.core import ConfigError, UserError
from pipelines.core.batch import Batch
from pipelines.core.source import Source
from pipelines.decode.tokenizer import Tokenizer
from pipelines.memory import keep_freed_memory
from pipelines.read_once import cached_bytes
from pipelines.reader import Reader, Share, open_source
from pipelines.views import Augmented, ViewBuilder, unpack
from trainers.accelerator import use_accelerator
from trainers.core.engine import EngineConfig
from trainers.flops import computed_per_sample, flops_per_sample
from trainers.held import HeldFolder
from trainers.kept import kept_per_sample, whole_per_sample
from trainers.model import build_objective
from trainers.recipe import Recipe

if TYPE_CHECKING:
    from trainers.core.engine import Engine

_FEW = 8  # samples of which operations and what is kept of them are counted
_FIRST = 8  # samples of the first trial, at least; each further one has twice as many
_LONG = 1.0  # seconds of a step after which no larger trial is made, if there are two
_ROUNDS = 5  # of timing the two largest trials, in turns: a machine's other work comes and goes
_BUDGET = 1.5  # seconds of a round
_TABLES = 3  # batches of the real data that trials go round in


def probe(recipe: Recipe, profile: Profile, source: Source | None = None) -> Measured:
    """Try a recipe in processes of their own.

    On a CPU there are as many processes as the profile has workers and the machine cores; they
    train with the profile's engine and talk to one another as workers do. For a profile of
    another device one process counts operations and what a pass keeps, and makes no steps.

    Args:
        recipe: What is learned.
        profile: Where.
        source: Of the data; opened here where it is None.

    Raises:
        UserError: The recipe does not fit, or a trial's process died.
    """
    check_fit(recipe, profile)
    reader = Reader(source or open_source(recipe.data.source), recipe.data, recipe.seed)
    if reader.order.size < recipe.global_batch:
        raise ConfigError(
            f"global_batch is {recipe.global_batch} but the data set has only "
            f"{reader.order.size} samples; set global_batch to at most that"
        )
    cores = available_cores()
    here = profile.device == "cpu"
    processes = min(profile.workers, cores) if here else 1
    setting = _Setting(
        recipe,
        profile,
        profile.engine.model_copy(update={"compile": False}) if here else profile.engine,
        here,
        reader,
        train_tokenizer(recipe, reader),
        recipe.global_batch // profile.workers,
        max(1, cores // profile.workers) if here else cores,
        processes,
    )
    with (
        closing(HeldFolder(Path(tempfile.gettempdir()), "eagleray-plan-")) as held,
        ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool,
    ):
        try:
            found = list(pool.map(partial(_work, setting, str(held.path)), range(processes)))
        except BrokenProcessPool:
            raise UserError(
                "a trial's process died, most likely for want of memory; "
                "set global_batch lower, or use more workers"
            ) from None
    peaks = [max(each.trials[n].peak for each in found) for n in range(len(found[0].trials))]
    trials = tuple(replace(t, peak=p) for t, p in zip(found[0].trials, peaks, strict=True))
    decode = sum(each.decode_seconds for each in found) / len(found)
    share = Share(recipe.global_batch, 0, profile.workers, 0, recipe.steps)
    return replace(
        found[0],
        trials=trials,
        decode_seconds=decode,
        epoch=reader.order.size,
        cached=cached_bytes(reader, share, profile.cache),
    )


@dataclass(frozen=True)
class _Setting:
    """What each process of a trial is told."""

    recipe: Recipe
    profile: Profile
    engine: EngineConfig
    here: bool  # whether the profile's device is this machine's
    reader: Reader
    tokenizer: Tokenizer | None
    local: int
    threads: int
    processes: int


def _work(setting: _Setting, folder: str, rank: int) -> Measured:
    """Run one process: load what a worker loads, then decode and train."""
    import trainers.worker  # noqa: F401  # for its memory: Ray and DeepSpeed with all they need

    use_accelerator(torch.device("cpu"))
    from trainers.deepspeed_engine import DeepSpeedEngine

    keep_freed_memory()
    torch.set_num_threads(setting.threads)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(setting.processes)}
    dist.init_process_group(
        "gloo", f"file://{folder}/meet", rank=rank, world_size=setting.processes
    )
    try:
        recipe, device = setting.recipe, torch.device("cpu")
        objective = build_objective(recipe, setting.tokenizer)
        size = recipe.data.decode.size
        again = recipe.repeats
        builder = ViewBuilder(objective.views, recipe.seed, size, setting.tokenizer, device, again)
        tables, row_bytes, decoding = _decode(setting, rank, builder)
        there = setting.profile.augment == "readers"
        views = partial(unpack, device=device) if there else builder
        few = views(tables[0].slice(0, _FEW))
        flops, sizes = flops_per_sample(objective, few), sizes_of(objective, recipe.optimizer)
        kept = whole = 0.0
        if not setting.here:
            flops = computed_per_sample(objective, few, setting.engine)
            kept = kept_per_sample(objective, few, setting.engine)
            whole = whole_per_sample(objective, few, setting.engine)
        trials: tuple[Trial, ...] = ()
        if setting.here:
            parts, local = setting.engine.accumulate, setting.local
            engine = DeepSpeedEngine(objective, recipe.optimizer, setting.engine, local, device)
            runs = _Runs(engine, views, tables, recipe.optimizer.learning_rate, parts)
            trials = tuple(runs.trials(local))
    finally:
        dist.destroy_process_group()
    return Measured(
        trials=trials,
        sizes=sizes,
        engine=setting.engine,
        workers=setting.processes,
        cores=available_cores(),
        row_bytes=row_bytes,
        decode_seconds=decoding,
        flops=flops * recipe.repeats,
        kept=kept * recipe.repeats,
        whole=min(kept, whole) * recipe.repeats,
    )


def _decode(
    setting: _Setting, rank: int, views: Callable[[pa.Table], Batch]
) -> tuple[list[pa.Table], int, float]:
    """Read this process's first batches, as one task does.

    Returns:
        Tables as a worker is given them, bytes of a row of theirs, and seconds that a sample takes
        one core; views that readers make on GPUs take it none.
    """
    profile = setting.profile
    rows = min(setting.local, setting.reader.order.size // setting.processes)
    count = max(_TABLES, -(-profile.reader.samples_per_task // rows))
    share = Share(rows * setting.processes, rank, setting.processes, 0, count)
    next(setting.reader.batches(share))  # opens files
    began = time.perf_counter()
    held = list(setting.reader.batches(share))
    seconds = (time.perf_counter() - began) / (rows * count)
    held = held[:_TABLES]
    if profile.augment == "worker":
        return held, setting.reader.row_bytes, seconds
    began = time.perf_counter()
    held = list(map(Augmented(views, 1), held))
    if not profile.reader.gpus:
        seconds += (time.perf_counter() - began) / (rows * _TABLES)
    torch.set_num_threads(setting.threads)
    return held, -(-held[0].nbytes // rows), seconds


@dataclass
class _Runs:
    """Steps of an engine over tables that it has."""

    engine: Engine
    views: Callable[[pa.Table], Batch]
    tables: list[pa.Table]
    rate: float
    parts: int = 1

    def trials(self, local: int) -> Iterator[Trial]:
        """Double the batch until it is a worker's or takes long; then time the last two."""
        local = min(local, self.tables[0].num_rows)
        first = min(_FIRST, max(1, local // 2))
        batch = self.parts * -(-first // self.parts)
        peaks, took = {}, 0.0
        while True:
            self._steps(batch, 2)
            took = self._steps(batch, 1)
            peaks[batch] = _peak()
            # Two at least: what a sample's activations take is told by their difference.
            if batch == local or (took > _LONG and len(peaks) > 1):
                break
            batch = min(2 * batch, local)
        seconds: dict[int, list[float]] = {batch: [] for batch in list(peaks)[-2:]}
        for _ in range(_ROUNDS):
            for batch, times in seconds.items():
                # All processes know the same times, and so make equally many steps.
                count = round(_BUDGET / (times[-1] if times else took))
                times.append(self._steps(batch, max(2, min(50, count))))
        for batch, times in seconds.items():
            yield Trial(batch, statistics.median(times), peaks[batch])

    def _steps(self, batch: int, count: int) -> float:
        """Seconds of a step, agreed between processes."""
        began = time.perf_counter()
        for number in range(count):
            table = self.tables[number % len(self.tables)].slice(0, batch)
            self.engine.step(self.views(table), self.rate)
            self.engine.objective.after_step(0.0)
        taken = torch.tensor([(time.perf_counter() - began) / count])
        return self.engine.mean(taken).item()


def _peak() -> int:
    """Bytes that this process had resident at most."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most << 10
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) << 10
