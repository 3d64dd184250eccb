"""``eagleray plan``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from cluster.cli._options import Json, Set, Workers, profile
from cluster.cli._progress import bar, say
from cluster.cli.index import Counted
from pipelines.core import UserError

if TYPE_CHECKING:
    from cluster.plan import Prediction
    from cluster.profile import Profile

_STATES = ("parameters", "gradients", "optimizer", "average", "bucket")
_ORDER = (*_STATES, "activations", "waiting", "cache", "process", "total", "host", "disk")


def command(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe's name, or a YAML file.")],
    on: Annotated[
        str, typer.Option("--on", help="Where: a shipped profile's name, or a file.")
    ] = "laptop",
    workers: Workers = None,
    overrides: Set = None,
    utilisation: Annotated[
        float,
        typer.Option(
            "--utilisation", help="Share of a GPU's peak that training reaches.", min=0.01, max=1
        ),
    ] = 0.4,
    gpu: Annotated[
        str | None,
        typer.Option("--gpu", help="GPU of the profile; this machine's, or else an NVIDIA A100."),
    ] = None,
    price: Annotated[
        float | None, typer.Option("--price", help="Price of a device-hour.", min=0)
    ] = None,
    as_json: Json = False,
) -> None:
    """Predict memory, speed, time and cost of a run, from steps or counts on this machine.

    Example: eagleray plan simclr-emoji --on node --gpu "NVIDIA H100 HBM3" --price 2.5
    """
    from trainers.recipe import load_recipe

    loaded, chosen = load_recipe(recipe, overrides or ()), profile(on, workers)
    flops = _peak(gpu, chosen)

    from cluster.plan import Assumptions, predict  # after what is likely wrong: they import Ray
    from cluster.probe import probe
    from cluster.profile import check_fit
    from pipelines.reader import open_source
    from pipelines.shards.index import scan_here

    check_fit(loaded, chosen)
    with bar("shards indexed") as watch:
        source = open_source(loaded.data.source, scan=Counted(scan_here, watch))
    say("making a few steps" if chosen.device == "cpu" else "counting what a step takes")
    tried = probe(loaded, chosen, source)
    found = predict(loaded, chosen, tried, Assumptions(utilisation, flops, price))
    print(json.dumps(asdict(found), indent=2)) if as_json else _show(found, chosen.device)


def _peak(gpu: str | None, profile: Profile) -> float:
    """Operations a second of a profile's GPU; 0 where it has none.

    Raises:
        UserError: They are not known.
    """
    import torch

    from trainers.flops import peak

    if profile.device == "cpu":
        return 0.0
    precision = profile.engine.precision
    if gpu is None and torch.cuda.is_available():
        here = torch.cuda.get_device_name()
        if (flops := peak(here, precision)) is not None:
            return flops
        say(f"{here}: its speed in {precision} is not known; taking an NVIDIA A100's")
    gpu = gpu or "NVIDIA A100"
    flops = peak(gpu, precision)
    if flops is None:
        raise UserError(
            f"--gpu {gpu}: its speed in {precision} is not known; name one as CUDA "
            "does: NVIDIA A100, NVIDIA H100 HBM3, NVIDIA L40S"
        )
    return flops


def _show(found: Prediction, device: str) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column(f"MB a worker ({device})")
    for stage in found.memory:
        own = "*" if stage == found.stage else ""
        table.add_column(f"ZeRO {stage}{own}", justify="right")
    for name in _ORDER:
        counts = [memory.get(name, 0) for memory in found.memory.values()]
        if any(counts):
            table.add_row(name, *(f"{count / 1e6:,.0f}" for count in counts))
    console = Console()
    console.print(table)
    speed, hours = found.speed, found.seconds / 3600
    time = f"{hours:.1f} hours" if hours >= 1 else f"{found.seconds / 60:.1f} minutes"
    lines = [
        f"{speed.samples_per_second:,.0f} samples/s, bound by {speed.bound} "
        f"(computing alone {speed.compute:,.0f}/s, reading alone {speed.reading:,.0f}/s)",
        f"from {speed.basis}",
        f"{found.samples:,} samples in {time} of training, {found.device_hours:,.2f} device-hours; "
        "starting, commits and evaluations come on top",
    ]
    if found.cost is not None:
        lines.append(f"cost: {found.cost:,.2f}")
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
