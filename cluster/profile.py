"""Profiles: where a recipe runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipelines.core import Config, ConfigError, nearest, validate
from pipelines.reader_config import ReaderConfig
from trainers.core.engine import EngineConfig, check_together
from trainers.core.tracker import TrackerConfig
from trainers.recipe import Recipe, names_in, read_named
from trainers.retention import Retention
from trainers.trackers import TRACKERS
from trainers.trackers.jsonl import Jsonl

SHIPPED = Path(__file__).parent / "profiles"


class EvaluationJobs(Config):
    """How evaluation jobs run beside training.

    Attributes:
        at_once: Jobs that may run at the same time.
        tries: How often one is started before it counts as failed.
        timeout: Seconds after which a job is stopped and counts as a failed try.
        niceness: Added to the jobs' own, so that training goes first.
        cpus: Logical CPUs that a job occupies, and threads that it computes with, one at least.
        gpus: GPUs that a job occupies; with 0 it computes on one that trains, where any do.
    """

    at_once: int = Field(default=1, ge=1)
    tries: int = Field(default=2, ge=1)
    timeout: float = Field(default=600.0, gt=0)
    niceness: int = Field(default=10, ge=0, le=19)
    cpus: float = Field(default=0.0, ge=0)
    gpus: float = Field(default=0.0, ge=0)


class Profile(Config):
    """Where a recipe runs; nothing here changes what it learns, up to rounding.

    Attributes:
        workers: Training workers: the most, where ``min_workers`` says how few will do.
        min_workers: Fewest workers: the run starts with as many as there is room for, goes on with
            fewer when nodes are lost, and with more when there is room again. None: ``workers``.
        wait_for_workers: Seconds to wait for room for the fewest.
        device: What they train on.
        cpus_per_worker: Logical CPUs of each.
        engine: ZeRO stage and precision.
        reader: How reading is spread.
        augment: Where views are made: by the worker on its device, or by its readers, on nodes
            with CPUs to spare or on GPUs of their own (``reader.gpus``). The numbers are the same.
        evaluations: How evaluation jobs run.
        restarts: How often a worker group that died is started again.
        patience: Seconds that a step, with a commit after it, may take before its worker counts
            as hanging: its stacks go to its log, and the group is started again.
        keep: Which commits are kept: all, unless it says otherwise.
        ledger: Whether the run keeps which samples each of its steps was made of, for
            ``eagleray verify RUN``; worker 0 holds those since the last commit.
        trackers: Where metrics go.
    """

    workers: int = Field(default=1, ge=1)
    min_workers: int | None = Field(default=None, ge=1)
    wait_for_workers: float = Field(default=1800.0, gt=0)
    device: Literal["cpu", "cuda"] = "cpu"
    cpus_per_worker: float = Field(default=1.0, gt=0)
    engine: EngineConfig = EngineConfig()
    reader: ReaderConfig = ReaderConfig()
    augment: Literal["worker", "readers"] = "worker"
    evaluations: EvaluationJobs = EvaluationJobs()
    restarts: int = Field(default=3, ge=0)
    patience: float = Field(default=1800.0, gt=0)
    keep: Retention = Retention()
    ledger: bool = False
    trackers: tuple[Annotated[TrackerConfig, TRACKERS], ...] = (Jsonl.Config(),)

    @model_validator(mode="after")
    def _fewest_and_most(self) -> Profile:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(
                f"min_workers: {self.min_workers} is more than workers, {self.workers}"
            )
        return self

    @property
    def cache(self) -> int:
        """Bytes of decoded samples that a worker may keep: none where readers make its views."""
        return self.reader.cache if self.augment == "worker" else 0


def shipped() -> list[str]:
    """Names of the profiles that come with the package."""
    return names_in(SHIPPED)


def load_profile(name: str, overrides: tuple[str, ...] = ()) -> Profile:
    """Load a profile by its shipped name, or from a file.

    Raises:
        ConfigError: One line with the path and the nearest valid name.
    """
    return validate(Profile, *read_named(name, SHIPPED, "profile", overrides))


def check_fit(recipe: Recipe, profile: Profile) -> None:
    """Refuse a profile that a recipe cannot run on.

    Raises:
        ConfigError: The worker count does not divide the global batch, or the parts a worker's
            share, or the optimizer does not work under the ZeRO stage, or no evaluation tells
            which commit is the best.
    """
    check_together(recipe.optimizer, profile.engine)
    best, judges = profile.keep.best, [f"{kind}/{name}" for kind, name in recipe.judges]
    if best is not None and judges and best not in judges:
        raise ConfigError(f"keep.best: no evaluation is called '{best}'; {nearest(best, judges)}")
    batch, workers = recipe.global_batch, profile.workers
    if batch % workers:
        raise ConfigError(
            f"{workers} workers do not divide the global batch of {batch}; "
            f"use --workers {_near(workers, batch)}, or set global_batch"
        )
    local, parts = batch // workers, profile.engine.accumulate
    if local % parts:
        raise ConfigError(
            f"engine.accumulate: {parts} parts do not divide a worker's {local} samples of a step; "
            f"set it to {_near(parts, local)}, or set global_batch or workers"
        )


def _near(number: int, whole: int) -> str:
    """The divisors next to a number that is none."""
    divisors = [n for n in range(1, whole + 1) if whole % n == 0]
    below = max(n for n in divisors if n < number)
    return " or ".join(map(str, [below, *[n for n in divisors if n > number][:1]]))
