"""``eagleray doctor``."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cluster.cli._options import Json, ProfileName, Set, Workers, profile
from cluster.cli._terminal import result_alone
from pipelines.core import UserError
from pipelines.shards.storage import redact

_COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}


def command(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe's name, or a YAML file.")],
    out: Annotated[str | None, typer.Option("--out", help="URL of the run, to be tried.")] = None,
    profile_name: ProfileName = "laptop",
    workers: Workers = None,
    overrides: Set = None,
    cluster: Annotated[
        str | None, typer.Option("--cluster", help="Address of a Ray cluster, to be looked at.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Find what will go wrong with a run before it starts; fails where something will.

    Example: eagleray doctor clip-emoji --profile node --out s3://bucket/runs/clip
    """
    from trainers.recipe import load_recipe

    loaded, chosen = load_recipe(recipe, overrides or ()), profile(profile_name, workers)

    from cluster import doctor, look  # after what is likely wrong: they import Ray

    address = cluster or os.environ.get("RAY_ADDRESS")
    machine, data = look.look_at_machine(), look.look_at_data(loaded, out)
    findings = list(doctor.examine(loaded, chosen, machine, data, here=not address))
    findings += doctor.evaluations(loaded, look.look_at_evaluations(loaded))
    findings += doctor.trackers(chosen, out or "run", here=not address)
    if out is not None:
        findings += doctor.writable(out)
    if address:
        import time

        from cluster.session import connect
        from cluster.workforce import cluster_nodes

        with result_alone(), connect(chosen, address):
            findings.append(doctor.room(loaded, chosen, cluster_nodes()[0]))
            findings.append(doctor.skew(look.clocks(), time.time))
    findings = [replace(finding, text=redact(finding.text)) for finding in findings]
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        table = Table(box=None, pad_edge=False, show_header=False)
        for finding in findings:
            colour = _COLOURS[finding.level]
            table.add_row(f"[{colour}]{finding.level}[/]", finding.check, escape(finding.text))
        Console().print(table)
    wrong = [finding for finding in findings if finding.level == "error"]
    if wrong:
        raise UserError(f"{len(wrong)} of {len(findings)} checks failed; first: {wrong[0].text}")
