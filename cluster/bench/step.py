"""A step of the whole system against one of a plain loop that has its data in memory."""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from cluster.bench.rounds import Measure
from cluster.prepare import train_tokenizer
from cluster.profile import Profile
from cluster.run import train_run
from pipelines.memory import keep_freed_memory
from pipelines.reader import Reader, Share, open_source
from pipelines.stream import ReaderConfig, stream_here
from pipelines.views import ViewBuilder
from trainers.blocks import compile_parts
from trainers.core.phases import PHASES
from trainers.flops import utilisation
from trainers.model import build_objective
from trainers.optimizers import build_optimizer
from trainers.recipe import Recipe

_HELD = 32  # batches that the plain loop goes round in


@dataclass(frozen=True)
class Stepping:
    """What both candidates do: the same steps of a recipe.

    Attributes:
        recipe: What is learned.
        profile: Where, with one worker.
        steps: How many are made; the first third goes by before the clock starts.
    """

    recipe: Recipe
    profile: Profile
    steps: int

    @property
    def warm(self) -> int:
        """Steps before the clock starts."""
        return self.steps // 3


def alone(profile: Profile) -> Profile:
    """One worker of a profile; on a CPU, all of whose cores it has, with all workers' readers."""
    one = profile.model_copy(update={"workers": 1, "min_workers": None})
    if profile.device != "cpu":
        return one
    readers = {"tasks_ahead": profile.reader.tasks_ahead * profile.workers}
    return one.model_copy(update={"reader": profile.reader.model_copy(update=readers)})


def candidates(stepping: Stepping) -> tuple[Mapping[str, Measure], list[dict[str, float]]]:
    """What is measured, by name; and what else each run tells."""
    found: list[dict[str, float]] = []
    return {"ours": lambda: ours(stepping, found), "bare": lambda: bare(stepping, found)}, found


def ours(stepping: Stepping, found: list[dict[str, float]]) -> float:
    """Train by stream, engine, loop, tracker and a commit at the end. Samples/s."""
    samples = stepping.steps * stepping.recipe.global_batch
    # A line of metrics waits for the device: between two of them it must not be disturbed.
    changes = {
        "samples": samples,
        "commit_every": samples,
        "evaluations": (),
        "log_every": max(1, stepping.warm),
    }
    recipe = stepping.recipe.model_copy(update=changes)
    with tempfile.TemporaryDirectory(prefix="eagleray-bench-") as folder:
        out = str(Path(folder) / "run")
        train_run(
            recipe, stepping.profile, out, command="bench step", watch=_unwatched, say=_silent
        )
        text = (Path(out) / "metrics.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        facts = json.loads((Path(out) / "run.json").read_text())
    found.append(_told(lines, facts))
    first, last = lines[0], lines[-1]
    return float((last["samples"] - first["samples"]) / (last["seconds"] - first["seconds"]))


def _told(lines: list[dict[str, float]], facts: dict[str, Any]) -> dict[str, float]:
    """What else the lines of metrics after the first tell, and what a run's summary does."""
    clocked, last = lines[1:], lines[-1]
    spent = {name: sum(line[f"seconds_{name}"] for line in clocked) for name in ("wait", *PHASES)}
    return {
        "data_wait_share": spent["wait"] / sum(spent.values()),
        "augment_share": spent["augment"] / sum(spent[name] for name in PHASES),
        "commit_seconds": facts["commit_share"] * facts["seconds"]["train"],
        "flops_per_sample": last["flops_per_second"] / last["samples_per_second"],
        "memory_bytes": last["memory_bytes"],
    }


def shares_of_peak(
    stepping: Stepping, rates: Mapping[str, float], flops: float
) -> dict[str, float]:
    """Share of the device's peak that each candidate's samples/s need; empty where it is unknown.

    Args:
        stepping: What was measured.
        rates: Samples/s by candidate.
        flops: Operations of a sample.
    """
    device, precision = torch.device(stepping.profile.device), stepping.profile.engine.precision
    used = {name: utilisation(rate * flops, device, precision, 1) for name, rate in rates.items()}
    return {name: share["mfu"] for name, share in used.items() if "mfu" in share}


def with_reading(rate: float, read_seconds: float, cores: int) -> float:
    """What a loop would make that reads its samples on the cores that it trains on.

    Args:
        rate: Samples/s of the loop with its data in memory.
        read_seconds: Seconds of a core that reading a sample takes.
        cores: How many both have.

    Returns:
        Samples/s, if the two share the cores without any loss.
    """
    return 1 / (1 / rate + read_seconds / cores)


def bare(stepping: Stepping, found: list[dict[str, float]]) -> float:
    """The same modules, views and optimizer in a plain loop, in a process of its own. Samples/s."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        rate, read_seconds = pool.apply(_bare, (stepping,))
    found.append({"read_seconds": read_seconds})
    return rate


def _held(reader: Reader, share: Share) -> tuple[list[pa.Table], float]:
    """Tables of a share, and seconds of a core that a sample of them took."""
    next(stream_here(reader, share, ReaderConfig()))  # with all that is done once
    began = time.process_time()
    held = list(stream_here(reader, share, ReaderConfig()))
    return held, (time.process_time() - began) / (share.global_batch * len(held))


def _bare(stepping: Stepping) -> tuple[float, float]:
    """Samples/s of the loop, and seconds of a core to read one."""
    recipe = stepping.recipe
    device = torch.device(stepping.profile.device)
    if device.type == "cpu":
        keep_freed_memory()
        torch.set_num_threads(os.cpu_count() or 1)
    reader = Reader(open_source(recipe.data.source), recipe.data, recipe.seed)
    tokenizer = train_tokenizer(recipe, reader)
    objective = build_objective(recipe, tokenizer).to(device)
    if stepping.profile.engine.compile:
        compile_parts(objective, device)
    size, again = recipe.data.decode.size, recipe.repeats
    views = ViewBuilder(objective.views, recipe.seed, size, tokenizer, device, again)
    tables, read_seconds = _held(
        reader, Share(recipe.global_batch, 0, 1, 0, min(stepping.steps, _HELD))
    )
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
        batch = views(table)
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
    made = (stepping.steps - stepping.warm) * recipe.global_batch
    return made / (time.perf_counter() - began), read_seconds


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _unwatched(run: str, planned: int) -> contextlib.AbstractContextManager[None]:
    del run, planned
    return contextlib.nullcontext()


def _silent(line: str) -> None:
    del line
