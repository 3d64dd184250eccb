"""One training run from the driver's side: prepare, train, evaluate beside it, report."""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import ray

from cluster.alone import alone
from cluster.attempts import ask_for_what_is_missing, train_to_the_end
from cluster.evaluation_jobs import EvaluationManager
from cluster.facts import Facts
from cluster.prepare import Prepared, claim, prepare, whole_url
from cluster.profile import Profile, check_fit
from cluster.ray_jobs import RayJobs, beside_gpus
from cluster.report import read_run, write_report, write_summary
from cluster.report.metrics import collapses, parse_metrics
from cluster.session import Session, check_address, connect
from cluster.workforce import Need, check_room, cluster_nodes
from pipelines.core import UserError
from pipelines.shards import storage
from pipelines.shards.quarantine import read_quarantine
from trainers.checkpoint import committed, latest, newest
from trainers.hooks import quarantine_url, read_clock
from trainers.recipe import Recipe
from trainers.retention import prune
from trainers.trackers.prometheus import Prometheus

# What a job needs of the environment of the job that trains: workers get it by themselves.
_CARRIED = (
    *("working_dir", "py_modules", "env_vars", "pip", "uv", "conda"),
    *("container", "image_uri", "py_executable"),
)
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
    check_fit(recipe, profile)
    check_address(address or "")
    for tracker in profile.trackers:
        tracker.check(whole_url(out))
    with alone(whole_url(out), say):
        return _train_alone(recipe, profile, out, command, watch, say, address)


def _train_alone(
    recipe: Recipe,
    profile: Profile,
    out: str,
    command: str,
    watch: Watch,
    say: Callable[[str], None],
    address: str | None,
) -> Finished:
    began = time.perf_counter()
    run = claim(out, recipe)
    facts = Facts(run, recipe, profile, command)
    say(f"connecting to {address}" if address else "starting Ray")
    with connect(profile, address, dashboard=_wants_dashboard(recipe, profile)) as session:
        if session.mine:
            check_room(Need.of(profile, recipe.global_batch), cluster_nodes()[0])
        say("reading the data set's index")
        started = time.perf_counter()
        prepared = prepare(run, recipe)
        facts.prepared(prepared, recipe)
        preparing = time.perf_counter() - started
        # From here on the store is known to be right: one that is down comes back.
        try:
            with storage.persisting(profile.reader.outage):
                faults = _train(run, recipe, profile, prepared, facts, session, watch, say)
        except BaseException:
            with suppress(UserError):  # what ended it is what is told
                spent = time.perf_counter() - began
                facts.stopped(read_clock(run), data=preparing, total=spent)
            raise
    with storage.persisting(profile.reader.outage):
        for fault in faults:
            facts.event(newest(run), fault)
        evaluating = sum(result.seconds for result in read_run(run).results)
        found = latest(run)
        workers = found.state().world_size if found else profile.workers
        quarantined = len(read_quarantine(quarantine_url(run)))
        facts.conclude(read_clock(run), newest(run), quarantined, workers)
        facts.seconds(data=preparing, evaluate=evaluating, total=time.perf_counter() - began)
        url = write_summary(run)
        return Finished(run, json.loads(storage.read_text(url)), write_report(run))


def _train(
    run: str,
    recipe: Recipe,
    profile: Profile,
    prepared: Prepared,
    facts: Facts,
    session: Session,
    watch: Watch,
    say: Callable[[str], None],
) -> list[str]:
    """Train with evaluations beside it; returns what failed of them."""
    with (
        _evaluating(run, recipe, profile, session, say) as faults,
        watch(run, recipe.steps * recipe.global_batch),
    ):
        train_to_the_end(run, recipe, profile, prepared.reader, facts, say)
        ask_for_what_is_missing(run, recipe)
    prune(run, profile.keep)
    for samples in _collapses(run):
        facts.once(samples, "the features have collapsed: see feature_rank and feature_spread")
    return faults


def _wants_dashboard(recipe: Recipe, profile: Profile) -> bool:
    # It takes evaluations' jobs, and tells Prometheus where the metrics of Ray's processes are.
    seen = any(isinstance(tracker, Prometheus.Config) for tracker in profile.trackers)
    return seen or bool(recipe.evaluations)


def _collapses(run: str) -> list[int]:
    """Samples at which features were found collapsed after they had not been, or at first."""
    url = storage.join(run, "metrics.jsonl")
    lines, _ = parse_metrics(storage.read_text(url)) if storage.exists(url) else ((), 0)
    return collapses(lines)


@contextmanager
def _evaluating(
    run: str, recipe: Recipe, profile: Profile, session: Session, say: Callable[[str], None]
) -> Iterator[list[str]]:
    """Evaluate commits while the body trains, and the last ones after it; yields what failed."""
    if not recipe.evaluations:
        yield []
        return
    manager = _manager(run, profile, session)
    manager.start()
    try:
        yield manager.faults
    except BaseException:
        manager.leave()
        raise
    say("waiting for the last evaluations")
    _drain(manager, profile, run)


def _manager(run: str, profile: Profile, session: Session) -> EvaluationManager:
    limits = profile.evaluations
    environment = dict(ray.get_runtime_context().runtime_env)
    carried = {name: environment[name] for name in _CARRIED if environment.get(name)}
    # A cluster's machines have one image, so the interpreter is at the same place on each.
    tag, outage = uuid.uuid4().hex[:6], profile.reader.outage
    # Without GPUs of their own jobs share those that train.
    device = "cuda" if limits.gpus else profile.device
    where = beside_gpus if device == "cuda" and not limits.gpus else dict
    jobs = RayJobs(session.dashboard, carried, limits.cpus, limits.gpus, where)
    return EvaluationManager(run, limits, jobs, sys.executable, tag, outage, device)


def _drain(manager: EvaluationManager, profile: Profile, run: str) -> None:
    limits = profile.evaluations
    commits = max(1, len(committed(run)))
    # Every request ends by itself within its tries; this only guards against the unforeseen.
    if not manager.finish(commits * limits.tries * (limits.timeout + 60)):
        manager.faults.append("evaluations: some never ended; see the jobs on the dashboard")
