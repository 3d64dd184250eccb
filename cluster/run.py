"""One training run from the driver's side: prepare, train, evaluate beside it, report."""

from __future__ import annotations

import json
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train.torch import TorchTrainer

from cluster import recovery
from cluster.evaluation_jobs import EvaluationManager
from cluster.facts import Facts
from cluster.prepare import Prepared, claim, prepare
from cluster.profile import Profile, check_fit
from cluster.ray_jobs import RayJobs
from cluster.report import write_report, write_summary
from cluster.session import Session, connect
from cluster.skipped import read_skipped, write_skipped
from pipelines.memory import ONE_ARENA
from pipelines.shards import storage
from pipelines.shards.quarantine import read_quarantine
from trainers.checkpoint import committed
from trainers.hooks import quarantine_url, read_clock
from trainers.job import Job
from trainers.meter import NotFinite
from trainers.recipe import Recipe
from trainers.requests import filed, judged
from trainers.retention import prune
from trainers.worker import work

Watch = Callable[[str, int], Any]
"""Shows progress: a context manager made of (run, planned samples)."""


@dataclass(frozen=True)
class Finished:
    """A run that ended well: where it is, its summary and its report."""

    run: str
    summary: dict[str, Any]
    report: str


def train_run(
    recipe: Recipe,
    profile: Profile,
    out: str,
    *,
    command: str,
    watch: Watch,
    say: Callable[[str], None],
    address: str | None = None,
) -> Finished:
    """Train a recipe, or go on with it from its last commit.

    Args:
        recipe: What to learn.
        profile: Where.
        out: URL of the run.
        command: What the user typed, for the report.
        watch: Shows progress.
        say: Tells the user a line.
        address: Of a Ray cluster; None for $RAY_ADDRESS or one's own.

    Raises:
        UserError: Something the user can put right; the run keeps its commits.
    """
    began = time.perf_counter()
    check_fit(recipe, profile)
    run = claim(out, recipe)
    facts = Facts(run, recipe, profile, command)
    say(f"connecting to {address}" if address else "starting Ray")
    with connect(profile, address, jobs=True) as session:
        say("reading the data set's index")
        started = time.perf_counter()
        prepared = prepare(run, recipe)
        facts.prepared(prepared, recipe)
        preparing = time.perf_counter() - started
        manager = _manager(run, profile, session)
        manager.start()
        try:
            with watch(run, recipe.steps * recipe.global_batch):
                _train(run, recipe, profile, prepared, facts)
        except BaseException:
            manager.leave()
            raise
        say("waiting for the last evaluations")
        _drain(manager, profile, run)
        prune(run, profile.keep)
    for fault in manager.faults:
        facts.event(_samples(run), fault)
    evaluating = sum(r.seconds for samples in judged(run) for r in filed(run, samples))
    facts.conclude(read_clock(run), _samples(run), len(read_quarantine(quarantine_url(run))))
    facts.seconds(data=preparing, evaluate=evaluating, total=time.perf_counter() - began)
    url = write_summary(run)
    return Finished(run, json.loads(storage.read_text(url)), write_report(run))


def _samples(run: str) -> int:
    found = committed(run)
    return found[-1] if found else 0


def _manager(run: str, profile: Profile, session: Session) -> EvaluationManager:
    limits = profile.evaluations
    environment = dict(ray.get_runtime_context().runtime_env)
    shipped = {k: environment[k] for k in ("working_dir", "py_modules") if k in environment}
    jobs = RayJobs(session.dashboard, shipped, limits.cpus, limits.gpus)
    # A cluster's machines have one image, so the interpreter is at the same place on each.
    return EvaluationManager(run, limits, jobs, sys.executable, uuid.uuid4().hex[:6])


def _drain(manager: EvaluationManager, profile: Profile, run: str) -> None:
    limits = profile.evaluations
    commits = max(1, len(committed(run)))
    # Every request ends by itself within its tries; this only guards against the unforeseen.
    if not manager.finish(commits * limits.tries * (limits.timeout + 60)):
        manager.faults.append("evaluations: some never ended; see the jobs on the dashboard")


def _train(run: str, recipe: Recipe, profile: Profile, prepared: Prepared, facts: Facts) -> None:
    planned = recipe.steps * recipe.global_batch
    job = Job(
        run=run,
        folder=str(Path.cwd()),
        recipe=recipe,
        engine=profile.engine,
        reader=profile.reader,
        patience=profile.patience,
        keep=profile.keep,
        trackers=profile.trackers,
    )
    reader, restarts = ray.put(prepared.reader), 0
    while (before := _samples(run)) < planned:
        skipped = read_skipped(run)
        if before:
            facts.event(before, f"went on from the commit at {before} samples")
        now = job.model_copy(update={"skipped": skipped.steps})
        try:
            _fit({"job": now.model_dump(mode="json"), "reader": reader}, profile)
        except Exception as error:  # what it means is decided below
            progressed = _samples(run) > before
            left = recipe.rewinds - len(skipped.windows)
            decision = recovery.decide(error, restarts, profile.restarts, progressed, left)
            fault = recovery.user_error(error)
            if decision == "rewind" and isinstance(fault, NotFinite):
                write_skipped(run, skipped.and_step(fault.step, recipe.global_batch))
                lost = f"the batch of step {fault.step} is left out: its loss was not finite"
                facts.event(_samples(run), lost)
                continue
            if decision == "tell the user" and fault is not None:
                facts.event(_samples(run), str(fault))
                raise fault from error
            facts.event(_samples(run), f"a training worker failed: {_line(error)}")
            if decision == "give up":
                raise
            restarts = 0 if progressed else restarts + 1


def _line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else type(error).__name__


def _fit(config: dict[str, Any], profile: Profile) -> None:
    resources: dict[str, float] = {"CPU": profile.cpus_per_worker}
    if profile.device == "cuda":
        resources["GPU"] = 1
    with tempfile.TemporaryDirectory(prefix="eagleray-train-") as folder:
        TorchTrainer(
            work,
            train_loop_config=config,
            scaling_config=ray.train.ScalingConfig(
                num_workers=profile.workers,
                use_gpu=profile.device == "cuda",
                resources_per_worker=resources,
            ),
            run_config=ray.train.RunConfig(
                name="run",
                storage_path=folder,
                # The library runs ``work`` in a thread.
                worker_runtime_env={"env_vars": ONE_ARENA},
            ),
        ).fit()
