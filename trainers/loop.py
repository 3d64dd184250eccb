"""The training loop: tables in, updates, metrics and commits out. No Ray, no DeepSpeed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa
import torch
from torch import Tensor

from pipelines.core import DataError, UserError
from pipelines.core.batch import Batch
from trainers.core.engine import Engine, OptimizerConfig
from trainers.core.objective import LossOutput
from trainers.schedule import commits_after, learning_rate

_ENOUGH = 200  # samples before a share of unreadable ones means anything


@dataclass(frozen=True)
class Plan:
    """How long a run is and when it does what.

    Attributes:
        global_batch: Samples of a step.
        steps: Length.
        log_every: Steps between lines of metrics.
        commit_every: Samples between commits.
        quarantine_limit: Share of unreadable samples at which the run stops.
        epoch: Samples of an epoch.
    """

    global_batch: int
    steps: int
    log_every: int
    commit_every: int
    quarantine_limit: float
    epoch: int


@dataclass
class Clock:
    """Where the time of a run went, in seconds, over all its parts.

    Attributes:
        train: From the first batch to the last, commits and waiting included.
        wait: Waiting for data after the first batch.
        first_wait: Waiting for the first batch.
        commit: Making commits, asking for evaluations included.
        evaluation: Asking for evaluations.
    """

    train: float = 0.0
    wait: float = 0.0
    first_wait: float = 0.0
    commit: float = 0.0
    evaluation: float = 0.0


class Hooks(Protocol):
    """What a run does beside learning; called on every worker."""

    def first(self, table: pa.Table, batch: Batch) -> None:
        """See the first batch."""
        ...

    def log(self, metrics: dict[str, float], samples: int) -> None:
        """Record a line of metrics, already averaged over workers."""
        ...

    def commit(self, samples: int, clock: Clock, faults: list[dict[str, Any]]) -> float:
        """Make a checkpoint; returns the seconds that asking for evaluations took."""
        ...


@dataclass
class _Interval:
    """Sums since the last line of metrics."""

    outputs: list[LossOutput] = field(default_factory=list)
    norms: list[Tensor] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)
    wait: float = 0.0


def train(
    engine: Engine,
    tables: Iterator[pa.Table],
    build: Callable[[pa.Table], Batch],
    plan: Plan,
    optimizer: OptimizerConfig,
    hooks: Hooks,
    done: int = 0,
    clock: Clock | None = None,
) -> Clock:
    """Train from step ``done`` to the end.

    Args:
        engine: Makes the updates.
        tables: One table a step, from step ``done`` on.
        build: Turns a table into views.
        plan: Length and intervals.
        optimizer: Rates and schedule.
        hooks: Logging and commits.
        done: Steps that an earlier part of the run made.
        clock: Where its time went.

    Raises:
        DataError: Too many samples are unreadable, or the stream ended early.
        UserError: The loss is not finite.
    """
    clock = clock or Clock()
    seconds = clock.train
    faults: list[dict[str, Any]] = []
    began = time.perf_counter()
    interval = _Interval()
    for step in range(done + 1, plan.steps + 1):
        asked = time.perf_counter()
        table = next(tables, None)
        if table is None:
            raise DataError(f"the stream ended after {step - 1} of {plan.steps} steps")
        waited = time.perf_counter() - asked
        if step == done + 1:
            # Training time starts with the first batch: what comes before it is start-up.
            clock.first_wait += waited
            began = interval.began = time.perf_counter()
        else:
            clock.wait += waited
            interval.wait += waited
        faults += _faults(table)
        batch = build(table)
        if step == done + 1:
            hooks.first(table, batch)
        samples = step * plan.global_batch
        rate = learning_rate(optimizer, samples, plan.steps * plan.global_batch)
        result = engine.step(batch, rate)
        engine.objective.after_step(step / plan.steps)
        interval.outputs.append(result.output)
        interval.norms.append(result.grad_norm)
        if step % plan.log_every == 0 or step == plan.steps:
            clock.train = seconds + time.perf_counter() - began
            hooks.log(_line(engine, interval, plan, step, rate, clock), samples)
            _check_quarantine(faults, samples // engine.world_size, plan.quarantine_limit)
            interval = _Interval()
        if commits_after(step, plan.global_batch, plan.commit_every, plan.steps):
            clock.train = seconds + time.perf_counter() - began
            started = time.perf_counter()
            clock.evaluation += hooks.commit(samples, clock, faults)
            paused = time.perf_counter() - started
            clock.commit += paused
            interval.began += paused  # the rate is that of training; commits are counted apart
    clock.train = seconds + time.perf_counter() - began
    return clock


def _line(
    engine: Engine, interval: _Interval, plan: Plan, step: int, rate: float, clock: Clock
) -> dict[str, float]:
    names = ["loss", *sorted(interval.outputs[0].metrics)]
    rows = [
        torch.stack([o.loss.detach(), *(o.metrics[name] for name in names[1:])]).float()
        for o in interval.outputs
    ]
    means = engine.mean(torch.stack(rows).mean(0).cpu()).tolist()
    line = dict(zip(names, means, strict=True))
    samples = step * plan.global_batch
    if not all(map(torch.isfinite, torch.tensor(means))):
        raise UserError(
            f"the loss is not finite at {samples} samples; lower optimizer.learning_rate "
            "or raise optimizer.warmup, then run again: it goes on from the last commit"
        )
    took = time.perf_counter() - interval.began
    return {
        "step": step,
        "epoch": samples / plan.epoch,
        **line,
        "learning_rate": rate,
        "grad_norm": float(torch.stack([n.float().cpu() for n in interval.norms]).mean()),
        "samples_per_second": len(rows) * plan.global_batch / took,
        "data_wait_share": interval.wait / took,
        "seconds": clock.train,
    }


def _faults(table: pa.Table) -> list[dict[str, Any]]:
    marked = [text for text in table["fault"].to_pylist() if text]
    return [fault for text in marked for fault in json.loads(text)]


def _check_quarantine(faults: list[dict[str, Any]], seen: int, limit: float) -> None:
    if seen >= _ENOUGH and len(faults) > limit * seen:
        first = faults[0]
        raise DataError(
            f"{len(faults)} of {seen} samples are unreadable, over data.quarantine_limit {limit}; "
            f"first {first['key']} in {first['shard']}: {first['reason']}"
        )
