"""What every Ray Train worker runs: stream -> engine -> loop -> commits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pyarrow as pa
import ray
import ray.train
import torch

from pipelines.ahead import Ahead
from pipelines.available import available_cores
from pipelines.core.batch import Batch
from pipelines.decode.tokenizer import Tokenizer
from pipelines.memory import keep_freed_memory
from pipelines.reader import Reader, Share
from pipelines.shards import storage
from pipelines.stream import stream
from pipelines.views import Augmented, ViewBuilder, unpack
from trainers.accelerator import use_accelerator
from trainers.agreed import agreed_commit
from trainers.checkpoint import Commit, discard_abandoned
from trainers.core.engine import Engine, EngineConfig
from trainers.core.objective import Objective
from trainers.delivered import Delivered
from trainers.flops import Effort
from trainers.hooks import RunHooks
from trainers.job import Job
from trainers.leaving import Leaving
from trainers.loop import Plan, train
from trainers.meter import Clock, NotFinite
from trainers.model import TOKENIZER, build_objective
from trainers.notice import Notice
from trainers.staging import scratch
from trainers.watchdog import watched


def work(config: dict[str, Any]) -> None:
    """Run one worker of a Ray Train group.

    Args:
        config: ``job`` (plain data of a ``Job``) and ``reader`` (reference of a ``Reader``).
    """
    job = Job.model_validate(config["job"])
    recipe = job.recipe
    storage.persist(job.reader.outage)
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    device = ray.train.torch.get_device()
    if device.type == "cpu":
        keep_freed_memory()
    _take_cores(device, job.engine, context.get_local_world_size())

    if rank == 0:
        discard_abandoned(job.run)
    found = agreed_commit(job.run)
    done = found.samples // recipe.global_batch if found else 0
    share = Share(recipe.global_batch, rank, workers, done, recipe.steps)
    read = partial(_read, config["reader"], share, job)
    # Reading starts before the model is built: the first batch is there when it is needed.
    tables = read() if job.augment == "worker" else iter(())
    reader: Reader = ray.get(config["reader"])

    tokenizer = _tokenizer(job, found)
    objective = build_objective(recipe, tokenizer)
    views = _views(objective, job, tokenizer, device)
    if job.augment == "readers":
        tables = read(*_by_readers(objective, job, tokenizer))
        views = partial(unpack, device=device)
    effort = Effort(objective, device, job.engine.precision, workers)
    engine = _engine(objective, job, share, device)
    clock = _restore(engine, found) if found else Clock()
    samples = done * recipe.global_batch
    delivered = Delivered(samples) if job.ledger else None
    if delivered:
        tables = delivered.noted(tables)
    notice = Notice(job.leave if rank == 0 else "")
    leaving = Leaving(engine, notice)
    hooks = RunHooks(job, engine, reader, tokenizer, samples, leaving, delivered, effort)
    plan = _plan(job, reader, found)
    try:
        train(
            engine, watched(tables, job.patience), views, plan, recipe.optimizer, hooks, done, clock
        )
        hooks.finish(clock)
    except NotFinite:  # which all workers raise alike
        hooks.settle()
        raise
    finally:
        notice.close()
        hooks.close()


def _take_cores(device: torch.device, engine: EngineConfig, workers: int) -> None:
    """Compute with this worker's share of the machine's cores, where the CPU computes at all.

    Ray gives a worker as many threads as it has CPUs, of which those with GPUs have few.
    """
    if device.type == "cpu" or engine.offload.optimizer != "none":
        torch.set_num_threads(max(1, available_cores() // workers))


def _engine(objective: Objective, job: Job, share: Share, device: torch.device) -> Engine:
    use_accelerator(device)
    # Imported here, since the driver, which sends ``work``, needs no library of training.
    from trainers.deepspeed_engine import DeepSpeedEngine

    return DeepSpeedEngine(objective, job.recipe.optimizer, job.engine, share.local, device)


def _read(reader: ray.ObjectRef, share: Share, job: Job, *changes: Augmented) -> Iterator[pa.Table]:
    return iter(Ahead(stream(reader, share, job.reader, *changes), patience=job.reader.deadline))


def _views(
    objective: Objective, job: Job, tokenizer: Tokenizer | None, device: torch.device
) -> Callable[[pa.Table], Batch]:
    recipe = job.recipe
    size = recipe.data.decode.size
    return ViewBuilder(objective.views, recipe.seed, size, tokenizer, device, recipe.repeats)


def _by_readers(objective: Objective, job: Job, tokenizer: Tokenizer | None) -> Iterator[Augmented]:
    """What makes views where samples are read, and the same for this process, without a GPU."""
    for device in ("cuda" if job.reader.gpus else "cpu", "cpu"):
        yield Augmented(_views(objective, job, tokenizer, torch.device(device)), job.reader.threads)


def _plan(job: Job, reader: Reader, found: Commit | None) -> Plan:
    recipe = job.recipe
    return Plan(
        recipe.global_batch,
        recipe.steps,
        recipe.log_every,
        recipe.commit_every,
        recipe.data.quarantine_limit,
        reader.order.size,
        frozenset(job.skipped),
        found.state().unreadable if found else 0,
    )


def _tokenizer(job: Job, found: Commit | None) -> Tokenizer | None:
    """The one that the weights were trained with, verified, or a new run's."""
    if job.recipe.tokenizer is None:
        return None
    new = storage.join(job.run, TOKENIZER)
    text = found.read_text(TOKENIZER) if found else storage.read_text(new)
    return Tokenizer.from_json(text, job.recipe.tokenizer.length)


def _restore(engine: Engine, found: Commit) -> Clock:
    with scratch() as folder:
        found.fetch_engine(folder)
        engine.load(folder)
    return Clock.of(found.state().clock)
