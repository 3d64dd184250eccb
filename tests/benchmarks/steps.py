"""Every method's step against a plain loop of the same modules, in one table.

Run as ``python -m tests.benchmarks.steps [--recipes A,B] [--seconds S] [--rounds N]
[--profile P]`` on a machine that does nothing else: every candidate wants all of its cores. What
was measured is merged into ``steps.json`` beside this file, and ``steps.md`` is written from it.
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
    "cached_bytes",
    "warm_epochs",
)

_HEAD = """\
# What a step costs

Made by `python -m tests.benchmarks.steps`: samples/s of `eagleray bench step`, interleaved,
medians, against a plain PyTorch loop of the same modules with its data in memory (*plain*). *loop*
is this project's engine, loop and tracking with the data in memory, too, and *times* how much
longer its step takes than the plain one: what a method costs beside its arithmetic. *system* is the
whole, with the stream, and one worker. It also reads: decodes, or draws its films, on the cores
that it trains on; in rows that say *kept* each sample but once, before the clock starts, since all
of the data set have room in its memory (`reader.cache`), as they have in the plain loop's. The
others are of runs that read in every epoch: of films, or with `reader: {cache: 0}`. *reading* is
what a sample of that takes of a core, measured alone; *times of both* is against the plain loop and
its reading one after the other on the same cores. *before* is how long the system had been at work
when the clock started: readers take 15 s to start, on the same cores. Rows without it are of
shorter runs.

"""
_COLUMNS = (
    *("recipe", "plain", "loop", "times", "system", "times"),
    *("reading", "times of both", "waits", "before", "rounds", "date"),
)


def rows() -> dict[str, Row]:
    """What was measured, by recipe, and apart where samples are kept in memory."""
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else []
    return {_name(row): row for row in kept}


def _name(row: Row) -> str:
    return f"{row['recipe']}, kept" if row.get("cached_bytes") else str(row["recipe"])


def steps_of(recipe: str, seconds: float, profile: str) -> int:
    """How many steps take so long, and half as long before the clock starts.

    Readers take 15 s to start, on the cores of the steps: a short run is of those.
    """
    rate = float((rows().get(recipe) or measured(recipe, _FEW, 1, profile))["bare"])
    return max(_FEW, math.ceil(1.5 * seconds * rate / load_recipe(recipe).global_batch))


def settled(recipe: str, steps: int, rounds: int, profile: str) -> Row:
    """Measure once readers have started, and have read all that is kept: again where not."""
    row = measured(recipe, steps, rounds, profile)
    begun = row["warm_seconds"] / STARTED  # less where the machine is faster than the kept rate's
    if row["cached_bytes"]:
        begun = min(begun, row["warm_epochs"])
    if begun < 1:
        row = measured(recipe, math.ceil(1.2 * steps / begun), rounds, profile)
    return row


def measured(recipe: str, steps: int, rounds: int, profile: str) -> Row:
    """Run the benchmark of one recipe."""
    words = ["bench", "step", recipe, "--steps", str(steps), "--rounds", str(rounds), "--json"]
    command = [sys.executable, "-m", "cluster", *words, "--profile", profile]
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
    found = rows() | {_name(row): row}
    KEPT.write_text(json.dumps([found[name] for name in sorted(found)], indent=1) + "\n")
    table = [_cells(_COLUMNS), _cells(["---"] * len(_COLUMNS))]
    table += [_line(found[name]) for name in sorted(found)]
    KEPT.with_suffix(".md").write_text(_HEAD + "".join(table))


def _line(row: Row) -> str:
    read = "read_seconds" in row  # rows from before 2026-11-26, 22:00, have none
    cells = (
        _name(row),
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
    parser.add_argument("--profile", default="laptop")
    given = parser.parse_args()
    for recipe in given.recipes.split(","):
        steps = steps_of(recipe, given.seconds, given.profile)
        keep(settled(recipe, steps, given.rounds, given.profile))


if __name__ == "__main__":
    main()
