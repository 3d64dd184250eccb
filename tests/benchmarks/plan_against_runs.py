"""Predictions of ``eagleray plan`` against real runs: memory of a worker, and samples/s.

Run as ``python -m tests.benchmarks.plan_against_runs [--samples N] [--rounds N] [--profile P]
[RECIPE ...]``. A run stands between two predictions, whose mean is held against it: other work on
the machine counts in all three. Linux alone tells what a process had resident at most.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

RECIPES = ("rotation-emoji", "simclr-emoji", "clip-emoji")
_GLANCE = 0.25  # seconds between looks at the workers


def eagleray(*words: str) -> subprocess.Popen[str]:
    """Start a command."""
    command = [sys.executable, "-m", "cluster", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sys.stderr, text=True)


def settings(samples: int) -> list[str]:
    """A run of so many samples, without evaluations, as ``--set``."""
    changes = [f"samples={samples}", f"commit_every={samples}", "log_every=5", "evaluations=[]"]
    return [word for change in changes for word in ("--set", change)]


def planned(recipe: str, profile: str, samples: int) -> tuple[float, float]:
    """MB of a worker and samples/s, by a prediction."""
    process = eagleray("plan", recipe, "--on", profile, "--json", *settings(samples))
    text, _ = process.communicate()
    if process.returncode:
        sys.exit(process.returncode)
    found = json.loads(text)
    memory = found["memory"][str(found["stage"])]["total"]
    return memory / 1e6, found["speed"]["samples_per_second"]


def ran(recipe: str, profile: str, samples: int) -> tuple[float, float]:
    """MB of the largest worker and samples/s over the second half, by a run."""
    highest = 0
    with tempfile.TemporaryDirectory(prefix="eagleray-plan-") as folder:
        where = "--profile", profile, "--out", f"{folder}/run"
        process = eagleray("train", recipe, *where, "--json", *settings(samples))
        while process.poll() is None:
            highest = max([highest, *workers(process.pid)])
            time.sleep(_GLANCE)
        if process.returncode:
            sys.exit(process.returncode)
        lines = Path(folder, "run", "metrics.jsonl").read_text().splitlines()
    rates = [json.loads(line)["samples_per_second"] for line in lines]
    return highest / 1e6, statistics.median(rates[len(rates) // 2 :])


def workers(root: int) -> Iterator[int]:
    """Bytes that each training worker below a process had resident at most."""
    parents, highs = {}, {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(place.name)] = int(
                (place / "stat").read_text().rpartition(")")[2].split()[1]
            )
            if (place / "cmdline").read_text().startswith("ray::RayTrainWorker"):
                (high,) = re.findall(r"VmHWM:\s+(\d+)", (place / "status").read_text())
                highs[int(place.name)] = int(high) << 10
        except (OSError, ValueError):
            continue  # it has ended
    for number, high in highs.items():
        while number not in (root, 0):
            number = parents.get(number, 0)
        if number == root:
            yield high


def main() -> None:
    """Print a line for every round of every recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="*", default=RECIPES)
    parser.add_argument("--samples", type=int, default=12800)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--profile", default="laptop")
    told = parser.parse_args()
    heads = [("MB planned", 20), ("ran", 8), ("off", 7), ("samples/s planned", 22)]
    heads += [("ran", 8), ("off", 7)]
    print(" " * 16 + "".join(f"{head:>{width}}" for head, width in heads))
    for recipe in told.recipes:
        where = recipe, told.profile, told.samples
        before = planned(*where)
        for _ in range(told.rounds):
            real, after = ran(*where), planned(*where)
            row = f"{recipe:16}"
            for one, other, truth, width in zip(before, after, real, (20, 22), strict=True):
                pair = f"{one:,.0f}, {other:,.0f}"
                row += f"{pair:>{width}}{truth:8,.0f}{(one + other) / 2 / truth - 1:+7.0%}"
            print(row, flush=True)
            before = after


if __name__ == "__main__":
    main()
