"""``eagleray demo``."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.cli import train
from cluster.cli._options import Json, ProfileName, Set, Workers


def command(
    out: Annotated[str, typer.Option("--out", help="URL of the run.")] = "runs/demo",
    profile_name: ProfileName = "laptop",
    workers: Workers = None,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Train CLIP on the shipped emoji, evaluate it on a style it never saw, and report.

    The same as eagleray train clip-emoji --out runs/demo. Stopped, it goes on when run again.

    Example: eagleray demo --out runs/demo
    """
    train.command("clip-emoji", out, profile_name, workers, overrides, None, as_json)
