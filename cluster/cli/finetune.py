"""``eagleray finetune``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from cluster.cli._options import Json, Set
from cluster.cli._progress import bar, say

if TYPE_CHECKING:
    from trainers.finetune import FinetuneResult
    from trainers.finetune_task import Score


def command(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe's name, or a YAML file.")],
    out: Annotated[
        str | None, typer.Option("--out", help="URL of the folder for results, weights and report.")
    ] = None,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Use a pretrained tower with few labels, and score it with and without a shift.

    Writes results.json, model.safetensors and report.html.

    Example: eagleray finetune emoji --set labels.fraction=0.01 --set mode.epochs=200
    """
    import torch

    from cluster.report import write_finetuned
    from trainers.finetune import finetune
    from trainers.finetune_recipe import load_finetune_recipe

    loaded = load_finetune_recipe(recipe, overrides or ())
    place = out or f"runs/finetune-{loaded.name}"
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with bar("steps") as progress:
        result = finetune(loaded, place, device, progress)
    report = write_finetuned(place)
    if as_json:
        print(result.without_pictures())
    else:
        _show(result)
        say(f"{place}: results.json and model.safetensors")
        say(report)


def _show(result: FinetuneResult) -> None:
    from cluster.report.formats import metric

    origin = f"{result.samples:,} samples" if result.checkpoint else "initial weights"
    known = f"{result.pictures:,} pictures with labels, {len(result.classes)} classes"
    table = Table(box=None, pad_edge=False, title=f"{known}, {origin}", title_justify="left")
    table.add_column(metric(result.scores[0].outcome.headline))
    names = list(dict.fromkeys(score.dataset for score in result.scores))
    for name in names:
        table.add_column(name, justify="right")
    for stage in dict.fromkeys(score.stage for score in result.scores):
        table.add_row(stage, *(_cell(_find(result, stage, name)) for name in names))
    first = [_find(result, result.scores[0].stage, name) for name in names]
    table.add_row("chance", *(f"{100 * score.outcome.chance:.1f} %" for score in first))
    table.add_row("examples", *(f"{score.outcome.examples:,}" for score in first))
    Console().print(table)


def _cell(score: Score) -> str:
    low, high = score.outcome.interval
    accuracy = score.outcome.metrics[score.outcome.headline]
    return f"{100 * accuracy:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _find(result: FinetuneResult, stage: str, name: str) -> Score:
    return next(s for s in result.scores if (s.stage, s.dataset) == (stage, name))
