"""The training loop: tables in, updates, metrics and commits out. No Ray, no DeepSpeed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from pipelines.core import DataError
from pipelines.core.batch import Batch
from trainers.core.collective import gather_objects
from trainers.core.engine import Engine, OptimizerConfig
from trainers.meter import Clock, Meter
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
        skipped: Steps that make no update: their batches broke an earlier attempt.
        unreadable: Samples that could not be read before step ``done``.
    """

    global_batch: int
    steps: int
    log_every: int
    commit_every: int
    quarantine_limit: float
    epoch: int
    skipped: frozenset[int] = frozenset()
    unreadable: int = 0


class Hooks(Protocol):
    """What a run does beside learning; called on every worker."""

    def first(self, table: pa.Table, batch: Batch) -> None:
        """See the first batch."""
        ...

    def log(self, metrics: dict[str, float], samples: int) -> None:
        """Record a line of metrics, already averaged over workers."""
        ...

    def commit(
        self,
        samples: int,
        clock: Clock,
        faults: list[dict[str, Any]],
        unreadable: int,
        judged: bool,
    ) -> float:
        """Make a checkpoint, evaluated or not; returns the seconds of waiting for the last one.

        ``faults`` are this worker's unreadable samples, each once; ``unreadable`` counts those of
        all workers and of the whole run, as often as they came.
        """
        ...

    def look(self, step: int, batch: Batch) -> dict[str, float]:
        """Look at the features after a step; returns further metrics, or nothing."""
        ...

    def quarantine(self, faults: list[dict[str, Any]]) -> None:
        """Keep the unreadable samples, of all workers, that stop the run."""
        ...

    def leaves(self) -> bool:
        """Whether all workers leave after this step; called after every one."""
        ...


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
    """Train from step ``done`` to the end, or until the workers are asked to leave.

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
        NotFinite: A loss or gradient is not; nothing that came of it was committed.
    """
    batch_size, total = plan.global_batch, plan.steps * plan.global_batch
    meter = Meter(engine, clock or Clock(), batch_size, plan.epoch)
    first, useful = True, False
    for step in range(done + 1, plan.steps + 1):
        table = meter.fetch(tables)
        if table is None:
            raise DataError(f"the stream ended after {step - 1} of {plan.steps} steps")
        samples = step * batch_size
        rate = learning_rate(optimizer, samples, total)
        if step not in plan.skipped:
            with engine.phases("augment"):
                batch = build(table)
            if first:
                started = time.perf_counter()
                hooks.first(table, batch)
                meter.aside(time.perf_counter() - started)
                first = False
            meter.add(step, engine.step(batch, rate))
            with engine.phases("optimizer"):
                engine.objective.after_step(step / plan.steps)
            meter.note(hooks.look(step, batch))
        if not meter.empty and (step % plan.log_every == 0 or step == plan.steps):
            line = meter.line(step, rate)
            hooks.log(line, samples)
            useful = useful or line.get("usable", 1.0) > 0
            _check_useful(useful, (step - done) * batch_size)
            _check_unreadable(meter, hooks, plan, step)
        due = commits_after(step, batch_size, plan.commit_every, plan.steps)
        leaves = hooks.leaves()
        if due or leaves:
            _commit(meter, hooks, plan, samples, due)
        if leaves:
            break
    return meter.now()


def _check_useful(useful: bool, seen: int) -> None:
    """A run none of whose samples is usable learns nothing, and would go on to its end."""
    if not useful and seen >= _ENOUGH:
        raise DataError(
            f"not one of {seen} samples is of use to the objective: films, sounds or texts are too "
            "short for it, or films slower than data.decode.video.rate; lower that, or raise "
            "data.decode.video.frames or data.decode.audio.seconds"
        )


def _check_unreadable(meter: Meter, hooks: Hooks, plan: Plan, step: int) -> None:
    """All workers stop alike, so that one of them can keep what was unreadable to any."""
    found, seen = meter.unreadable + plan.unreadable, step * plan.global_batch
    early = seen < _ENOUGH and step < plan.steps
    if early or not meter.unreadable or found <= plan.quarantine_limit * seen:
        return
    faults = [fault for part in gather_objects(meter.faults) for fault in part]
    hooks.quarantine(faults)
    first = faults[0]
    raise DataError(
        f"{found} of {seen} samples are unreadable, over data.quarantine_limit "
        f"{plan.quarantine_limit}; first {first['key']} in {first['shard']}: {first['reason']}"
    )


def _commit(meter: Meter, hooks: Hooks, plan: Plan, samples: int, due: bool) -> None:
    if not meter.empty:
        meter.check()  # nothing that is not finite is committed
    now = meter.now()
    unreadable = plan.unreadable + sum(gather_objects(meter.found))
    started = time.perf_counter()
    waited = hooks.commit(samples, now, meter.faults, unreadable, due)
    meter.paused(time.perf_counter() - started, waited)
