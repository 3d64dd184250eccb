"""Steps whose data is in memory: of a plain loop, and of this project's loop and engine."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
import torch.distributed as dist

from cluster.bench.stepping import Stepping, rate_between, read_lines
from cluster.prepare import train_tokenizer
from pipelines.available import available_cores
from pipelines.decode.tokenizer import Tokenizer
from pipelines.memory import keep_freed_memory
from pipelines.read_once import cached_bytes
from pipelines.reader import Reader, Share, open_source
from pipelines.reader_config import ReaderConfig
from pipelines.stream import stream_here
from pipelines.views import ViewBuilder
from trainers.accelerator import use_accelerator
from trainers.blocks import compile_parts
from trainers.core.objective import Objective
from trainers.flops import Effort
from trainers.hooks import RunHooks
from trainers.job import Job
from trainers.leaving import Leaving
from trainers.loop import Plan, train
from trainers.model import build_objective
from trainers.optimizers import build_optimizer
from trainers.watchdog import watched

_HELD = 32  # batches that a loop goes round in


def bare(stepping: Stepping, found: list[dict[str, float]]) -> float:
    """Step the modules, views and optimizer in a plain loop, in a process of its own. Samples/s."""
    rate, told = _apart(_bare, stepping)
    found.append(told)
    return float(rate)


def loop(stepping: Stepping) -> float:
    """Step by engine, loop and tracking, without a stream, in a process of its own. Samples/s."""
    return float(_apart(_loop, stepping))


def _apart(work: Callable[[Stepping], Any], stepping: Stepping) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, (stepping,))


@dataclass(frozen=True)
class _Setting:
    """What both loops start from."""

    reader: Reader
    tokenizer: Tokenizer | None
    objective: Objective
    views: ViewBuilder
    device: torch.device


def _set_up(stepping: Stepping) -> _Setting:
    recipe, device = stepping.recipe, torch.device(stepping.profile.device)
    if device.type == "cpu":
        keep_freed_memory()
        torch.set_num_threads(available_cores())
    reader = Reader(open_source(recipe.data.source), recipe.data, recipe.seed)
    tokenizer = train_tokenizer(recipe, reader)
    objective = build_objective(recipe, tokenizer)
    size, again = recipe.data.decode.size, recipe.repeats
    views = ViewBuilder(objective.views, recipe.seed, size, tokenizer, device, again)
    return _Setting(reader, tokenizer, objective, views, device)


def _held(reader: Reader, batch: int, steps: int) -> tuple[list[pa.Table], float]:
    """First tables of a stream, and seconds of a core that a sample of them took."""
    share = Share(batch, 0, 1, 0, min(steps, _HELD))
    next(stream_here(reader, share, ReaderConfig()))  # with all that is done once
    began = time.process_time()
    held = list(stream_here(reader, share, ReaderConfig()))
    return held, (time.process_time() - began) / (batch * len(held))


def _bare(stepping: Stepping) -> tuple[float, dict[str, float]]:
    """Samples/s of the plain loop, and what there is to read."""
    recipe, made = stepping.recipe, _set_up(stepping)
    device, objective = made.device, made.objective.to(made.device)
    if stepping.profile.engine.compile:
        compile_parts(objective, device)
    tables, read_seconds = _held(made.reader, recipe.global_batch, stepping.steps)
    told = {"read_seconds": read_seconds, **_kept(made.reader, stepping)}
    config = recipe.optimizer
    optimizer = build_optimizer(objective, config, device)
    precision = stepping.profile.engine.precision
    low = torch.float16 if precision == "fp16" else torch.bfloat16
    autocast = torch.autocast(device.type, low, enabled=precision != "fp32")
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    began = 0.0
    for step, table in enumerate(itertools.islice(itertools.cycle(tables), stepping.steps)):
        if step == stepping.warm:
            _settle(device)
            began = time.perf_counter()
        batch = made.views(table)
        with autocast:
            loss = objective(batch).loss
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(objective.parameters(), config.clip or float("inf"))
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        objective.after_step((step + 1) / stepping.steps)
    _settle(device)
    samples = (stepping.steps - stepping.warm) * recipe.global_batch
    return samples / (time.perf_counter() - began), told


def _kept(reader: Reader, stepping: Stepping) -> dict[str, float]:
    """Bytes of samples that the system keeps, and its epochs before the clock starts."""
    share = Share(stepping.recipe.global_batch, 0, 1, 0, stepping.steps)
    seen = stepping.warm * stepping.recipe.global_batch
    kept = cached_bytes(reader, share, stepping.profile.cache)
    return {"cached_bytes": kept, "warm_epochs": seen / reader.order.size}


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class _Uncommitted(RunHooks):
    """What a run does beside learning but its commits, which are Ray Train's to report."""

    def commit(self, *_: object, **__: object) -> float:
        """Commit nothing: a run's last commit is after the clock has stopped."""
        return 0.0


def _loop(stepping: Stepping) -> float:
    """Samples/s of the engine and the loop of a run."""
    made = _set_up(stepping)
    tables, _ = _held(made.reader, stepping.recipe.global_batch, stepping.steps)
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    backend = "nccl" if made.device.type == "cuda" else "gloo"
    with tempfile.TemporaryDirectory(prefix="eagleray-bench-") as folder:
        dist.init_process_group(backend, f"file://{folder}/meet", rank=0, world_size=1)
        try:
            _train(stepping, made, tables, folder)
        finally:
            dist.destroy_process_group()
        return rate_between(read_lines(folder))


def _train(stepping: Stepping, made: _Setting, tables: list[pa.Table], run: str) -> None:
    use_accelerator(made.device)
    # Its import takes seconds.
    from trainers.deepspeed_engine import DeepSpeedEngine

    recipe, config = stepping.clocked, stepping.profile.engine
    batch = recipe.global_batch
    job = Job(run=run, folder=run, recipe=recipe, engine=config)
    effort = Effort(made.objective, made.device, config.precision, 1)
    engine = DeepSpeedEngine(made.objective, recipe.optimizer, config, batch, made.device)
    leaving = Leaving(engine, lambda: False)
    hooks = _Uncommitted(job, engine, made.reader, made.tokenizer, 0, leaving, effort=effort)
    plan = Plan(
        batch,
        recipe.steps,
        recipe.log_every,
        recipe.commit_every,
        recipe.data.quarantine_limit,
        made.reader.order.size,
    )
    endless = watched(itertools.cycle(tables), job.patience)
    try:
        train(engine, endless, made.views, plan, recipe.optimizer, hooks)
    finally:
        hooks.close()
