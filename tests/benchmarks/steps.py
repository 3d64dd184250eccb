"""Every method's step against a plain loop of the same modules, in one table.

Run as ``python -m tests.benchmarks.steps [--recipes A,B] [--steps N] [--rounds N]`` on a machine
that does nothing else: every candidate wants all of its cores. What was measured is merged into
``steps.json`` beside this file, and ``steps.md`` is written from it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from trainers.recipe import shipped

KEPT = Path(__file__).with_name("steps.json")
OTHERS = ("debug", "clip-vit-b16")  # too small to tell, and too large for a CPU
Row = dict[str, Any]
_TOLD = ("ours", "loop", "bare", "bare_with_reading", "read_seconds", "data_wait_share")

_HEAD = """\
# What a step costs

Made by `python -m tests.benchmarks.steps`: samples/s of `eagleray bench step`, interleaved,
medians, against a plain PyTorch loop of the same modules with its data in memory (*plain*). *loop*
is this project's engine, loop and tracking with the data in memory, too, and *times* how much
longer its step takes than the plain one: what a method costs beside its arithmetic. *system* is the
whole, with the stream, and one worker. It also reads: decodes, or draws its films, on the cores
that it trains on. *reading* is what a sample of that takes of a core, measured alone; *times of
both* is against the plain loop and its reading one after the other on the same cores. Rows without
a *loop* are older.

| recipe | plain | loop | times | system | times | reading | times of both | waits | rounds | date |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def measured(recipe: str, steps: int, rounds: int) -> Row:
    """Run the benchmark of one recipe."""
    words = ["bench", "step", recipe, "--steps", str(steps), "--rounds", str(rounds), "--json"]
    command = [sys.executable, "-m", "cluster", *words]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return {
        "recipe": recipe,
        "date": datetime.date.today().isoformat(),
        "rounds": rounds,
        **{name: found[name] for name in _TOLD},
    }


def keep(row: Row) -> None:
    """Merge a row into the file; a newer one of the same recipe takes its place."""
    rows = json.loads(KEPT.read_text()) if KEPT.exists() else []
    found = {old["recipe"]: old for old in rows} | {row["recipe"]: row}
    KEPT.write_text(json.dumps([found[name] for name in sorted(found)], indent=1) + "\n")
    KEPT.with_suffix(".md").write_text(
        _HEAD + "".join(_line(found[name]) for name in sorted(found))
    )


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
        str(row["rounds"]),
        row["date"],
    )
    return f"| {' | '.join(cells)} |\n"


def main() -> None:
    """Measure what is asked for, a recipe at a time."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipes", default=",".join(r for r in shipped() if r not in OTHERS))
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    for recipe in given.recipes.split(","):
        keep(measured(recipe, given.steps, given.rounds))


if __name__ == "__main__":
    main()
