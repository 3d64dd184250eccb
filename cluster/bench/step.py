"""A step of the whole system, of its loop alone, and of a plain loop of the same modules."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from cluster.bench.in_memory import bare, loop
from cluster.bench.rounds import Measure
from cluster.bench.stepping import Stepping, rate_between, read_lines
from cluster.profile import Profile
from cluster.run import train_run
from trainers.core.phases import PHASES
from trainers.flops import utilisation


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
    measures: dict[str, Measure] = {
        "ours": lambda: ours(stepping, found),
        "loop": lambda: loop(stepping),
        "bare": lambda: bare(stepping, found),
    }
    return measures, found


def ours(stepping: Stepping, found: list[dict[str, float]]) -> float:
    """Train by stream, engine, loop, tracker and a commit at the end. Samples/s."""
    with tempfile.TemporaryDirectory(prefix="eagleray-bench-") as folder:
        out = str(Path(folder) / "run")
        train_run(
            stepping.clocked,
            stepping.profile,
            out,
            command="bench step",
            watch=_unwatched,
            say=_silent,
        )
        lines = read_lines(out)
        facts = json.loads((Path(out) / "run.json").read_text())
    found.append(_told(lines, facts))
    return rate_between(lines)


def _told(lines: list[dict[str, float]], facts: dict[str, Any]) -> dict[str, float]:
    """What else the lines of metrics after the first tell, and what a run's summary does."""
    last = lines[-1]
    spent = dict.fromkeys(("wait", *PHASES), 0.0)
    for before, line in pairwise(lines):  # a line has the mean of its steps, and the last has few
        for name in spent:
            spent[name] += (line["step"] - before["step"]) * line[f"seconds_{name}"]
    return {
        "warm_seconds": lines[0]["seconds"],
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


def _unwatched(run: str, planned: int) -> contextlib.AbstractContextManager[None]:
    del run, planned
    return contextlib.nullcontext()


def _silent(line: str) -> None:
    del line
