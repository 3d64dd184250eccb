"""Every method's step against a plain loop of the same modules, in one table.

Run as ``python -m tests.benchmarks.steps [--recipes A,B] [--seconds S] [--rounds N]`` on a machine
that does nothing else: every candidate wants all of its cores. What was measured is merged into
``steps.json`` beside this file, and ``steps.md`` is written from it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster.cli.bench import STARTED
from trainers.recipe import load_recipe, shipped

KEPT = Path(__file__).with_name("steps.json")
OTHERS = ("debug", "clip-vit-b16")  # too small to tell, and too large for a CPU
Row = dict[str, Any]
_FEW = 24  # steps
_TOLD = (
    "ours",
    "loop",
    "bare",
    "bare_with_reading",
    "read_seconds",
    "data_wait_share",
    "warm_seconds",
)

_HEAD = """\
# What a step costs

Made by `python -m tests.benchmarks.steps`: samples/s of `eagleray bench step`, interleaved,
medians, against a plain PyTorch loop of the same modules with its data in memory (*plain*). *loop*
is this project's engine, loop and tracking with the data in memory, too, and *times* how much
longer its step takes than the plain one: what a method costs beside its arithmetic. *system* is the
whole, with the stream, and one worker. It also reads: decodes, or draws its films, on the cores
that it trains on. *reading* is what a sample of that takes of a core, measured alone; *times of
both* is against the plain loop and its reading one after the other on the same cores. *before* is
how long the system had been at work when the clock started: readers take 15 s to start, on the same
cores. Rows without it are of shorter runs.

"""
_COLUMNS = (
    *("recipe", "plain", "loop", "times", "system", "times"),
    *("reading", "times of both", "waits", "before", "rounds", "date"),
)


def rows() -> dict[str, Row]:
    """What was measured, by recipe."""
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else []
    return {row["recipe"]: row for row in kept}


def steps_of(recipe: str, seconds: float) -> int:
    """How many steps take so long, and half as long before the clock starts.

    Readers take 15 s to start, on the cores of the steps: a short run is of those.
    """
    rate = float((rows().get(recipe) or measured(recipe, _FEW, 1))["bare"])
    return max(_FEW, math.ceil(1.5 * seconds * rate / load_recipe(recipe).global_batch))


def settled(recipe: str, steps: int, rounds: int) -> Row:
    """Measure once readers have started: again and longer where the clock started before."""
    row = measured(recipe, steps, rounds)
    if row["warm_seconds"] < STARTED:  # the machine is faster than that of the kept rate
        longer = 1.2 * STARTED / row["warm_seconds"]
        row = measured(recipe, math.ceil(steps * longer), rounds)
    return row


def measured(recipe: str, steps: int, rounds: int) -> Row:
    """Run the benchmark of one recipe."""
    words = ["bench", "step", recipe, "--steps", str(steps), "--rounds", str(rounds), "--json"]
    command = [sys.executable, "-m", "cluster", *words]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return {
        "recipe": recipe,
        "date": datetime.date.today().isoformat(),
        "rounds": rounds,
        "steps": steps,
        **{name: found[name] for name in _TOLD},
    }


def keep(row: Row) -> None:
    """Merge a row into the file; a newer one of the same recipe takes its place."""
    found = rows() | {row["recipe"]: row}
    KEPT.write_text(json.dumps([found[name] for name in sorted(found)], indent=1) + "\n")
    table = [_cells(_COLUMNS), _cells(["---"] * len(_COLUMNS))]
    table += [_line(found[name]) for name in sorted(found)]
    KEPT.with_suffix(".md").write_text(_HEAD + "".join(table))


def _line(row: Row) -> str:
    read = "read_seconds" in row  # rows from before 2026-11-26, 22:00, have none
    cells = (
        row["recipe"],
        f"{row['bare']:.0f}",
        f"{row['loop']:.0f}" if "loop" in row else "",
        f"{row['bare'] / row['loop']:.2f}" if "loop" in row else "",
        f"{row['ours']:.0f}",
        f"{row['bare'] / row['ours']:.2f}",
        f"{1e3 * row['read_seconds']:.2f} ms" if read else "",
        f"{row['bare_with_reading'] / row['ours']:.2f}" if read else "",
        f"{100 * row['data_wait_share']:.2f} %",
        f"{row['warm_seconds']:.0f} s" if "warm_seconds" in row else "",
        str(row["rounds"]),
        row["date"],
    )
    return _cells(cells)


def _cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def main() -> None:
    """Measure what is asked for, a recipe at a time."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipes", default=",".join(r for r in shipped() if r not in OTHERS))
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    for recipe in given.recipes.split(","):
        keep(settled(recipe, steps_of(recipe, given.seconds), given.rounds))


if __name__ == "__main__":
    main()
