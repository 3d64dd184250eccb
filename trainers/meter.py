"""What the loop measures: where the time goes, means between two lines of metrics, faults."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from pipelines.core import UserError
from trainers.core.engine import Engine, StepOutput
from trainers.core.objective import LossOutput
from trainers.core.phases import peak_memory


class NotFinite(UserError):
    """A step's loss or gradient is not finite.

    Attributes:
        step: The first such step: training may go on from a commit before it, without it.
    """

    def __init__(self, message: str, step: int):
        super().__init__(message)
        self.step = step

    def __reduce__(self) -> tuple[type[NotFinite], tuple[str, int]]:
        return type(self), (str(self), self.step)


@dataclass
class Clock:
    """Where the time of a run went, in seconds, over all its parts.

    Attributes:
        train: From the first batch to the last, commits and waiting included.
        wait: Waiting for data after the first batch.
        first_wait: Waiting for the first batch.
        commit: Making commits.
        evaluation: Of that, waiting for the last one to be written and its evaluations asked for.
    """

    train: float = 0.0
    wait: float = 0.0
    first_wait: float = 0.0
    commit: float = 0.0
    evaluation: float = 0.0

    @classmethod
    def of(cls, kept: Mapping[str, float]) -> Clock:
        """What a run has kept; what this version does not know of it is left out."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in kept.items() if name in names})


class Meter:
    """Keeps a run's clock and sums up steps until a line of metrics is due.

    Args:
        engine: Averages over workers.
        clock: Where the time of earlier parts of the run went; kept current.
        batch: Samples of a step.
        epoch: Samples of an epoch.

    Attributes:
        unreadable: Samples that could not be read, over all workers, as of the last line.
        found: Those of this worker, until now.
    """

    def __init__(self, engine: Engine, clock: Clock, batch: int, epoch: int):
        self._engine, self._clock = engine, clock
        self._batch, self._epoch = batch, epoch
        self._earlier = clock.train
        self._began: float | None = None
        self._faults: dict[tuple[str, str], dict[str, Any]] = {}
        self.found = 0
        self.unreadable = 0
        self._begin_interval()

    def _begin_interval(self) -> None:
        self._steps: list[int] = []
        self._outputs: list[LossOutput] = []
        self._norms: list[Tensor] = []
        self._notes: dict[str, float] = {}
        self._wait = self._commit = 0.0
        self._interval = time.perf_counter()

    def fetch(self, tables: Iterator[pa.Table]) -> pa.Table | None:
        """Take the next table, on the clock; None where the stream has ended."""
        asked = time.perf_counter()
        table = next(tables, None)
        waited = time.perf_counter() - asked
        if self._began is None:
            # Training time starts with the first batch: what comes before it is start-up.
            self._clock.first_wait += waited
            self._began = self._interval = time.perf_counter()
        else:
            self._clock.wait += waited
            self._wait += waited
        if table is not None:
            # Not by Arrow's functions: right after a step they took 2.5 ms here, and this 0.8.
            marked = [text for text in table["fault"].to_pylist() if text]
            for fault in (fault for text in marked for fault in json.loads(text)):
                self._faults[fault["shard"], fault["key"]] = fault
                self.found += 1
        return table

    @property
    def faults(self) -> list[dict[str, Any]]:
        """This worker's unreadable samples, each once, however often it came."""
        return list(self._faults.values())

    def add(self, step: int, result: StepOutput) -> None:
        """Count a step."""
        self._steps.append(step)
        self._outputs.append(result.output)
        self._norms.append(result.grad_norm)

    def note(self, metrics: dict[str, float]) -> None:
        """Add metrics to the next line as they are."""
        self._notes |= metrics

    @property
    def empty(self) -> bool:
        """Whether no step was made since the last line."""
        return not self._steps

    def now(self) -> Clock:
        """The clock, brought up to date."""
        if self._began is not None:
            self._clock.train = self._earlier + time.perf_counter() - self._began
        return self._clock

    def paused(self, seconds: float, evaluation: float) -> None:
        """Count a commit; the rate is that of training, so its interval leaves it out."""
        self._clock.commit += seconds
        self._clock.evaluation += evaluation
        self._commit += seconds
        self.aside(seconds)

    def aside(self, seconds: float) -> None:
        """Leave out of the rate what is done once."""
        self._interval += seconds

    def line(self, step: int, rate: float) -> dict[str, float]:
        """Average over workers and over the steps since the last line.

        Raises:
            NotFinite: A loss or gradient is not.
        """
        rows = self.check()
        took = time.perf_counter() - self._interval
        means = {name: values.mean().item() for name, values in rows.items()}
        line = {
            "step": step,
            "epoch": step * self._batch / self._epoch,
            **means,
            **self._notes,
            "learning_rate": rate,
            "samples_per_second": len(self._outputs) * self._batch / took,
            "data_wait_share": self._wait / took,
            "seconds": self.now().train,
            **self._spent(),
        }
        self._begin_interval()
        return line

    def _spent(self) -> dict[str, float]:
        """Seconds of a step by phase, and the peak of memory; means over workers.

        Unreadable samples are summed on the way.
        """
        phases = self._engine.phases.take()
        sums = {"wait": self._wait, **phases, "commit": self._commit}
        spent = {f"seconds_{name}": sum_ / len(self._outputs) for name, sum_ in sums.items()}
        spent["memory_bytes"] = peak_memory(self._engine.device)
        values = torch.tensor([*spent.values(), self.found], dtype=torch.float64)
        *means, found = self._engine.mean(values).tolist()
        self.unreadable = round(found * self._engine.world_size)
        return dict(zip(spent, means, strict=True))

    def check(self) -> dict[str, Tensor]:
        """Average every step since the last line over workers.

        Returns:
            Loss, further metrics and the gradient's norm by step. [steps] each

        Raises:
            NotFinite: A loss or gradient is not; all workers raise it alike.
        """
        names = ["loss", *sorted(self._outputs[0].metrics), "grad_norm"]
        steps = [
            torch.stack([o.loss.detach(), *(o.metrics[name] for name in names[1:-1])]).float().cpu()
            for o in self._outputs
        ]
        norms = torch.stack([norm.float().cpu().reshape(()) for norm in self._norms])
        rows = self._engine.mean(torch.cat([torch.stack(steps), norms[:, None]], 1))
        for step, row in zip(self._steps, rows, strict=True):
            if not torch.isfinite(row).all():
                raise NotFinite(
                    f"the loss is not finite at {step * self._batch} samples; lower "
                    "optimizer.learning_rate or raise optimizer.warmup, and begin anew in "
                    "another --out",
                    step,
                )
        return dict(zip(names, rows.T, strict=True))
