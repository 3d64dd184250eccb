"""``eagleray list``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from cluster.cli._options import Json
from pipelines.core import ConfigError, nearest

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.core import Family


def command(
    family: Annotated[str, typer.Argument(help="objectives, evaluations, recipes, ...")],
    as_json: Json = False,
) -> None:
    """Show the members of a family, and what each one is.

    Families: objectives, evaluations, sources, packers, augmentations, towers,
    modes, trackers, recipes, finetune-recipes, profiles.

    Example: eagleray list objectives
    """
    rows = members(family)
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for row in rows:
        table.add_row(row["name"], row["summary"])
    Console().print(table)


def members(family: str) -> list[dict[str, str]]:
    """Name and summary of every member.

    Raises:
        ConfigError: There is no such family.
    """
    from cluster import profile
    from trainers import finetune_recipe, recipe

    listed: dict[str, Callable[[], list[dict[str, str]]]] = {
        **{name: lambda f=found: _family(f) for name, found in families().items()},  # type: ignore[misc]
        "recipes": lambda: _files(recipe.SHIPPED, recipe.shipped()),
        "finetune-recipes": lambda: _files(finetune_recipe.SHIPPED, finetune_recipe.shipped()),
        "profiles": lambda: _files(profile.SHIPPED, profile.shipped()),
    }
    if family not in listed:
        raise ConfigError(f"no family '{family}'; {nearest(family, listed)}")
    return listed[family]()


def families() -> dict[str, Family]:
    """Every family that has a folder of its own, by the name it is listed under."""
    from pipelines.augment import AUGMENTATIONS
    from pipelines.packers import PACKERS
    from pipelines.reader import SOURCES
    from trainers.finetuning import MODES
    from trainers.models import TOWERS
    from trainers.objectives import OBJECTIVES
    from trainers.recipe import EVALUATIONS
    from trainers.trackers import TRACKERS

    return {
        "objectives": OBJECTIVES,
        "evaluations": EVALUATIONS,
        "sources": SOURCES,
        "packers": PACKERS,
        "augmentations": AUGMENTATIONS,
        "towers": TOWERS,
        "modes": MODES,
        "trackers": TRACKERS,
    }


def _family(family: Family) -> list[dict[str, str]]:
    return [{"name": member.name, "summary": member.summary} for member in family]


def _files(folder: Path, names: list[str]) -> list[dict[str, str]]:
    rows = []
    for name in names:
        first = (folder / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
        rows.append({"name": name, "summary": first.lstrip("# ")})
    return rows
