"""``eagleray train``."""

from __future__ import annotations

import json
import shlex
import sys
from typing import Annotated

import typer

from cluster.cli._options import Json, ProfileName, Set, Workers, profile
from cluster.cli._progress import say, watch
from cluster.cli._summary import show
from cluster.cli._terminal import result_alone


def command(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe's name, or a YAML file.")],
    out: Annotated[str | None, typer.Option("--out", help="URL of the run; runs/NAME.")] = None,
    profile_name: ProfileName = "laptop",
    workers: Workers = None,
    overrides: Set = None,
    cluster: Annotated[
        str | None, typer.Option("--cluster", help="Address of a Ray cluster.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a recipe, or go on with it: run the same command again.

    Example: eagleray train simclr-emoji --out runs/simclr --set samples=20000
    """
    from trainers.recipe import load_recipe

    loaded, chosen = load_recipe(recipe, overrides or ()), profile(profile_name, workers)

    from cluster.run import train_run  # after what is likely wrong: it imports Ray

    with result_alone():
        finished = train_run(
            loaded,
            chosen,
            out or f"runs/{loaded.name}",
            command=shlex.join(["eagleray", *sys.argv[1:]]),
            watch=watch,
            say=say,
            address=cluster,
        )
    print(json.dumps(finished.summary, indent=2)) if as_json else show(finished)
