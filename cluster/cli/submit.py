"""``eagleray submit``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from cluster.cli._options import Json, ProfileName, Set, Workers, profile
from cluster.cli._progress import say


def command(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe's name, or a YAML file.")],
    cluster: Annotated[str, typer.Option("--cluster", help="URL of the cluster's dashboard.")],
    out: Annotated[str, typer.Option("--out", help="URL of the run; every node must reach it.")],
    profile_name: ProfileName = "laptop",
    workers: Workers = None,
    overrides: Set = None,
    python: Annotated[str, typer.Option("--python", help="Interpreter on the cluster.")] = "python",
    wait: Annotated[bool, typer.Option("--wait", help="Follow the job until it ends.")] = False,
    as_json: Json = False,
) -> None:
    """Train a recipe as a job on a Ray cluster.

    Example: eagleray submit clip-emoji --cluster http://head:8265 --out s3://bucket/runs/clip
    """
    import yaml

    from cluster.profile import check_fit
    from trainers.recipe import load_recipe

    loaded, chosen = load_recipe(recipe, overrides or ()), profile(profile_name, workers)
    check_fit(loaded, chosen)

    from cluster import submit  # after what is likely wrong: it imports Ray

    text = yaml.safe_dump(chosen.model_dump(mode="json"))
    name = submit.submit(loaded, text, out, cluster, python)
    print(json.dumps({"job": name, "cluster": cluster, "run": out}) if as_json else name)
    if wait:
        submit.follow(name, cluster, say)
    else:
        say(f"follow it: ray job logs {name} --address {cluster} --follow")
