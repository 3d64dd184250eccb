"""``eagleray evaluate``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cluster.cli._options import Json, Set
from pipelines.core import Config, UserError, nearest, validate

if TYPE_CHECKING:
    from trainers.core.evaluation import EvaluationResult


def command(
    checkpoint: Annotated[
        str, typer.Argument(help="RUN/checkpoints/<samples>, or RUN for its newest.")
    ],
    evaluation: Annotated[str, typer.Option("--evaluation", help="See: list evaluations.")],
    data: Annotated[str, typer.Option("--data", help="Tars with images: a URL pattern.")],
    name: Annotated[str | None, typer.Option("--name", help="Of the data, for tables.")] = None,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Evaluate a checkpoint on any tars with images and captions or labels.

    Example: eagleray evaluate runs/demo --evaluation zero_shot --data 'tars/birds-*.tar'
    """
    import torch

    from trainers.checkpoint import find
    from trainers.on_device import OnDevice

    config = configure(evaluation, data, name, overrides or [])
    commit = find(checkpoint)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    result = OnDevice(commit, device).evaluated(config)
    if result.error is not None:
        raise UserError(result.error)
    if as_json:
        print(result.model_dump_json(indent=2, exclude={"outcome": {"gallery"}}))
    else:
        _show(result)


def configure(evaluation: str, data: str, name: str | None, overrides: list[str]) -> Config:
    """Build an evaluation's config from options.

    Raises:
        ConfigError: There is no such evaluation, or it has no such option.
    """
    from trainers.recipe import EVALUATIONS, override

    if evaluation not in EVALUATIONS.names():
        raise UserError(f"no evaluation '{evaluation}'; {nearest(evaluation, EVALUATIONS.names())}")
    title = name or _name_of(data)
    options: dict[str, Any] = override({"name": title, "data": data}, overrides)
    return validate(EVALUATIONS.get(evaluation).config, options, evaluation)


def _name_of(data: str) -> str:
    """What a URL pattern calls its files, as far as that is a name."""
    stem = re.split(r"[.{\[*?]", data.rstrip("/").rpartition("/")[2])[0]
    return re.sub(r"[^A-Za-z0-9_]+", "-", stem).strip("-_") or "data"


def _show(result: EvaluationResult) -> None:
    outcome = result.outcome
    if outcome is None:
        raise ValueError("a result without an outcome has an error")
    table = Table(box=None, show_header=False, pad_edge=False)
    for metric, value in outcome.metrics.items():
        table.add_row(metric, f"{100 * value:.2f} %")
    low, high = outcome.interval
    table.add_row("95 % interval", f"{100 * low:.2f} to {100 * high:.2f} % ({outcome.headline})")
    table.add_row("chance", f"{100 * outcome.chance:.3g} %")
    table.add_row("examples", f"{outcome.examples:,}")
    Console().print(table)
