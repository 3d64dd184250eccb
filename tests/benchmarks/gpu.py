"""What is asked of a GPU: the tests marked ``gpu``, views against kornia's, and whole steps.

Run as ``python -m tests.benchmarks.gpu [--profile gpu] [--steps N] [--rounds N]`` on an idle
machine with one; ``--small`` runs everything at a size that a CPU is able to. It prints a table;
a measurement that fails leaves its message in it, and the others are made all the same.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

Found = dict[str, Any]
# Views of Chen et al., 2020, as `eagleray bench augment` makes them.
_VIEWS = (
    "objective.augmentation={kind: crop_colour, area: [0.08, 1.0], brightness: 0.8, contrast: 0.8, "
    "saturation: 0.8, hue: 0.2, grey: 0.2, blur: 0.5, sigma: [0.1, 2.0]}"
)
_SIMCLR = (
    "data.source={kind: synthetic, samples: 16384, size: 224}",
    "data.decode={size: 224}",
    "objective.image={kind: vit, width: 384, layers: 12, heads: 6, patch: 16}",
    "global_batch=512",
    _VIEWS,
)
_SMALL_TOWER = "{kind: vit, width: 48, layers: 2, heads: 2, patch: 16}"
_SMALL = {
    "clip-vit-b16": (
        f"objective.image={_SMALL_TOWER}",
        "objective.text={kind: text_transformer, width: 48, layers: 2, heads: 2}",
        "global_batch=8",
    ),
    "simclr-emoji": (f"objective.image={_SMALL_TOWER}", "global_batch=8"),
}


def eagleray(*words: str) -> Found:
    """Run a command that prints JSON.

    Returns:
        What it printed; ``error``, the last line of what it complained of, where it failed.
    """
    command = [sys.executable, "-m", "cluster", *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {"error": lines[-1] if lines else f"exit status {done.returncode}"}
    found: Found = json.loads(done.stdout)
    return found


def tests() -> str:
    """Run what is marked ``gpu``; the last line that pytest prints."""
    words = [sys.executable, "-m", "pytest", "-m", "gpu", "--durations=0", "tests"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    counts = [line for line in done.stdout.splitlines() if " in " in line and "=" not in line[:3]]
    return f"exit status {done.returncode}" + (f"; {counts[-1]}" if counts else "")


def step(recipe: str, profile: str, arguments: argparse.Namespace, *changes: str) -> Found:
    """Run ``bench step``."""
    every = [*changes, *(_SMALL[recipe] if arguments.small else ())]
    words = [word for change in every for word in ("--set", change)]
    rounds = ("--rounds", str(arguments.rounds), "--steps", str(arguments.steps))
    return eagleray("bench", "step", recipe, "--profile", profile, *rounds, *words)


def main() -> None:
    """Measure everything, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--profile", default="gpu")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="on a CPU, with small towers")
    arguments = parser.parse_args()
    profile = "laptop" if arguments.small else arguments.profile
    device, batch = ("cpu", "8") if arguments.small else ("cuda", "512")
    print(f"tests marked gpu: {tests()}", flush=True)
    words = ("--device", device, "--batch", batch, "--rounds", str(arguments.rounds))
    show("two SimCLR views, against kornia", eagleray("bench", "augment", *words))
    show("CLIP ViT-B/16", step("clip-vit-b16", profile, arguments))
    show("SimCLR ViT-S/16", step("simclr-emoji", profile, arguments, *_SIMCLR))


def show(name: str, found: Found) -> None:
    """Print a measurement as rows of a table."""
    print(f"\n| {name} | |\n|---|---|")
    for key, value in found.items():
        if key != "rounds":
            print(f"| {key} | {value} |", flush=True)


if __name__ == "__main__":
    main()
