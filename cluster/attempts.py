"""Attempts at training: each goes on from the last commit, with the workers there is room for."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import ray

from cluster import recovery
from cluster.facts import Facts
from cluster.growth import LOOK, Growth, next_look
from cluster.profile import Profile
from cluster.skipped import read_skipped, write_skipped
from cluster.worker_group import train_group
from cluster.workforce import Need, demand, wait_for_workers
from pipelines.core import UserError
from pipelines.reader import Reader
from pipelines.shards import storage
from trainers.checkpoint import commit_at, committed, newest
from trainers.job import Job
from trainers.meter import NotFinite
from trainers.recipe import Recipe
from trainers.requests import FileSink, request_for, requested
from trainers.schedule import commits_after

_SHOWN = 90.0  # seconds until a network disk shows what another machine wrote


def train_to_the_end(
    run: str,
    recipe: Recipe,
    profile: Profile,
    reader: Reader,
    facts: Facts,
    say: Callable[[str], None],
) -> None:
    """Make attempts until the run is as long as its recipe says.

    Args:
        run: URL of the run.
        recipe: What is learned.
        profile: Where.
        reader: Of its data.
        facts: Where attempts that ended early are noted.
        say: Tells the user a line.

    Raises:
        UserError: Something the user can put right; the run keeps its commits.
    """
    planned = recipe.steps * recipe.global_batch
    need = Need.of(profile, recipe.global_batch)
    job = _job(run, recipe, profile)
    reference, restarts = ray.put(reader), 0
    every, had, asked = LOOK, 0, False
    with demand(need):
        while (before := newest(run)) < planned:
            ask_for_what_is_missing(run, recipe)
            workers = wait_for_workers(need, profile.wait_for_workers, say)
            every = next_look(every, asked, had, workers)
            if before or workers != need.most:
                many = f" with {workers} of {need.most} workers" if workers != need.most else ""
                facts.event(before, f"went on from the commit at {before} samples{many}")
            # Workers look for the file every now and then: only where it may come.
            ask = storage.join(run, "leave.json") if workers < need.most else ""
            now = job.model_copy(update={"skipped": read_skipped(run).steps, "leave": ask})
            config = {"job": now.model_dump(mode="json"), "reader": reference}
            failed = False
            growth = Growth(need, workers, ask, say, every=every)
            try:
                with growth:
                    train_group(config, profile, workers)
            except Exception as error:  # what it means is decided below
                failed = _after(error, run, recipe, profile, facts, before, restarts)
            else:
                _expect_a_commit(run, before)
            had, asked = workers, growth.asked
            restarts = 0 if newest(run) > before else restarts + failed


def _expect_a_commit(run: str, before: int) -> None:
    """Workers commit before they end in order: where none is seen here, they wrote elsewhere."""
    deadline = time.monotonic() + _SHOWN
    while newest(run) <= before:
        if time.monotonic() >= deadline:
            raise UserError(
                f"{run}: workers ended in order, but no commit of theirs is seen here; "
                "--out must be one place that every node reaches, such as s3://..."
            )
        time.sleep(1.0)


def _after(
    error: Exception,
    run: str,
    recipe: Recipe,
    profile: Profile,
    facts: Facts,
    before: int,
    restarts: int,
) -> bool:
    """Note what ended an attempt, and raise what ends the run; tells whether it failed."""
    skipped, samples = read_skipped(run), newest(run)
    progressed = samples > before
    left = recipe.rewinds - len(skipped.windows)
    decision = recovery.decide(error, restarts, profile.restarts, progressed, left)
    fault = recovery.user_error(error)
    if decision == "rewind" and isinstance(fault, NotFinite):
        write_skipped(run, skipped.and_step(fault.step, recipe.global_batch))
        lost = f"the batch of step {fault.step} is left out: its loss was not finite"
        facts.event(samples, lost)
        return False
    if decision == "tell the user" and fault is not None:
        facts.event(samples, str(fault))
        raise fault from error
    if decision == "move":
        facts.event(samples, f"a node was taken away: {_line(error)}")
        return False
    facts.event(samples, f"a training worker failed: {_line(error)}")
    if decision == "give up":
        raise error
    return True


def ask_for_what_is_missing(run: str, recipe: Recipe) -> None:
    """Ask for evaluations of commits whose worker was ended before it could.

    Before workers go on, which would remove such a commit as one that nothing needs.
    """
    batch = recipe.global_batch
    missing = set(committed(run)) - requested(run) if recipe.evaluations else set()
    for samples in sorted(missing):
        if commits_after(samples // batch, batch, recipe.commit_every, recipe.steps):
            asked = request_for(run, str(Path.cwd()), commit_at(run, samples), recipe.evaluations)
            FileSink(run).submit(asked)


def _job(run: str, recipe: Recipe, profile: Profile) -> Job:
    return Job(
        run=run,
        folder=str(Path.cwd()),
        recipe=recipe,
        engine=profile.engine,
        reader=profile.reader,
        augment=profile.augment,
        patience=profile.patience,
        keep=profile.keep,
        ledger=profile.ledger,
        trackers=profile.trackers,
    )


def _line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else type(error).__name__
