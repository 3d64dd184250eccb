"""What every image method learns: proxy task, nearest neighbours and probes, in one table.

Run as ``python -m tests.benchmarks.methods RUNS [--fashion TARS] [--methods A,B] [--sets A,B]
[--seeds 0,1]``. Each method is a run of ``eagleray train``, held against its tower at random
initialisation and against raw pixels. A run that is in RUNS already is not made again, so that a
table that was stopped is gone on with. What was measured is merged into ``methods.json`` beside
this file, and ``methods.md`` is written from it.

TARS is a folder with Fashion-MNIST, which is not shipped, as ``eagleray pack`` makes it of its IDX
files with ``--max-count 2000``, once with ``--name train`` and once with ``--name t10k``.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from tests.benchmarks.methods_table import table
from trainers.evaluate import Loader
from trainers.labels import encode
from trainers.neighbours import top_k
from trainers.recipe import Recipe, load_recipe

_HERE = Path(__file__).parent
KEPT = _HERE / "methods.json"
Row = dict[str, Any]


def settings(study: Row, method: str, data: str, tars: str) -> list[str]:
    """What a method's shipped recipe is changed by on a data set, as ``path.to.key=value``."""
    found = study["sets"][data]
    evaluations = list(found["evaluations"])
    if method in study["proxies"]:
        evaluations.append({"kind": "proxy", "name": data, "data": found["proxy"]})
    own = found.get("methods", {}).get(method, [])
    changes = [*study["changes"], *found.get("changes", []), *own]
    changes.append(f"evaluations={json.dumps(evaluations)}")
    return [change.replace("TARS", tars) for change in changes]


def untrained(recipe: Recipe) -> list[str]:
    """Changes that make a run of one step at rate 0: towers as they are drawn at first."""
    step = recipe.global_batch
    return ["optimizer.learning_rate=0", f"samples={step}", f"commit_every={step}"]


def trained(recipe: str, folder: Path, changes: Sequence[str]) -> Row:
    """Train, or read what an earlier call trained. Returns the run's summary."""
    if not (folder / "summary.json").exists():
        sets = [word for change in changes for word in ("--set", change)]
        command = [sys.executable, "-m", "cluster", "train", recipe, "--out", str(folder), *sets]
        subprocess.run(command, check=True, stdout=sys.stderr)
    summary: Row = json.loads((folder / "summary.json").read_text())
    if summary["failures"]:
        sys.exit(f"{folder}: {summary['failures']}")
    return summary


def scores(summary: Row) -> dict[str, Row]:
    """What the last commit's evaluations found, by their kind."""
    last = max(result["samples"] for result in summary["evaluations"])
    return {
        result["evaluation"]: {
            "accuracy": result["metrics"]["accuracy"],
            "interval": result["interval"],
            "chance": result["chance"],
        }
        for result in summary["evaluations"]
        if result["samples"] == last
    }


def pixels(recipe: Recipe, size: int) -> float:
    """Accuracy of the nearest neighbour by the cosine of raw pixels.

    Args:
        recipe: Its first evaluation names the data.
        size: Side of the pictures as they are stored.
    """
    config: Any = recipe.evaluations[0]
    load, wanted = Loader(size), {"label": config.label}
    reference, test = load(config.reference, wanted), load(config.data, wanted)
    images = [torch.from_numpy(data.images).flatten(1).float() for data in (test, reference)]
    _, places = top_k(*images, 1)
    names = sorted({*reference.texts["label"], *test.texts["label"]})
    known, asked = (encode(data.texts["label"], names) for data in (reference, test))
    return float((known[places[:, 0]] == asked).float().mean())


def measured(study: Row, method: str, data: str, seed: int, runs: Path, tars: str) -> Row:
    """A row of the table: what a method learns from a data set."""
    name = f"{method}-emoji"
    changes = [*settings(study, method, data, tars), f"seed={seed}"]
    recipe = load_recipe(name, changes)
    summary = trained(name, runs / f"{method}-{data}-{seed}", changes)
    other = study["towers"].get(method, method)
    changes = [*settings(study, other, data, tars), f"seed={seed}", *untrained(recipe)]
    first = trained(f"{other}-emoji", runs / f"{other}-{data}-{seed}-untrained", changes)
    return {
        "method": method,
        "data": data,
        "seed": seed,
        "date": datetime.date.today().isoformat(),
        "samples": summary["samples_seen"],
        "seconds": {part: round(summary["seconds"][part]) for part in ("train", "total")},
        "scores": scores(summary),
        "untrained": scores(first),
        "pixels": pixels(recipe, study["sets"][data]["stored"]),
    }


def keep(row: Row) -> None:
    """Merge a row into the file; a newer row of the same method, data and seed takes its place."""
    rows = json.loads(KEPT.read_text()) if KEPT.exists() else []
    found = {(old["method"], old["data"], old["seed"]): old for old in rows}
    found[row["method"], row["data"], row["seed"]] = row
    rows = [found[key] for key in sorted(found)]
    KEPT.write_text(json.dumps(rows, indent=1) + "\n")
    KEPT.with_suffix(".md").write_text(table(rows))


def main() -> None:
    """Measure what is asked for, a row at a time."""
    study = yaml.safe_load((_HERE / "methods.yaml").read_text())
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path, help="folder for the runs")
    parser.add_argument("--fashion", default="", help="folder of Fashion-MNIST's tars")
    parser.add_argument("--methods", default=",".join(study["methods"]))
    parser.add_argument("--sets", default=",".join(study["sets"]))
    parser.add_argument("--seeds", default="0")
    given = parser.parse_args()
    for method, data, seed in itertools.product(
        given.methods.split(","), given.sets.split(","), given.seeds.split(",")
    ):
        keep(measured(study, method, data, int(seed), given.runs, given.fashion))


if __name__ == "__main__":
    main()
