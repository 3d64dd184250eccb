"""``eagleray inspect``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.cli._options import Json
from cluster.cli._progress import bar, say
from cluster.cli._terminal import printable
from cluster.cli.index import Counted
from pipelines.shards import storage

if TYPE_CHECKING:
    from pipelines.sources.webdataset import WebDataset

_BROKEN = 12  # unreadable samples that the page shows


def command(
    url: Annotated[str, typer.Argument(help="Tars: a URL with {0..9} braces or * globs.")],
    samples: Annotated[
        int, typer.Option("--samples", help="How many to read and decode for trial.", min=1)
    ] = 1000,
    full: Annotated[bool, typer.Option("--full", help="Read and decode all of them.")] = False,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", help="A text field, as in a recipe: txt, json.title, json.tags[]."),
    ] = None,
    html: Annotated[
        str | None, typer.Option("--html", help="File for a page with samples: any URL.")
    ] = None,
    sheet: Annotated[
        int, typer.Option("--sheet", help="How many samples the page shows.", min=0, max=1000)
    ] = 48,
    as_json: Json = False,
) -> None:
    """Show what a data set holds, what is wrong with it, and some of its samples.

    Counts, sizes and repeated keys are exact and come from the index. Pictures,
    videos, sounds and texts are measured and decoded for trial in samples
    spread evenly over the data set, the same ones every time.

    Example: eagleray inspect 's3://bucket/train-*.tar' --html sheet.html
    """
    from pipelines.inspection import look_at, measure_index
    from pipelines.shards.index import scan_here
    from pipelines.sources.webdataset import WebDataset

    fields = text or []
    with bar("shards indexed") as watch:
        source = WebDataset(WebDataset.Config(url=url), scan=Counted(scan_here, watch))
    total = len(source.index)
    with bar("shards") as watch:
        measured = measure_index(source.index, watch)
    with bar("samples") as watch:
        looked = look_at(source, total if full else min(samples, total), fields, watch)
    facts = {"url": url, **measured, **looked}
    print(json.dumps(facts, indent=2)) if as_json else _show(facts)
    if html is not None:
        storage.write_text(html, _page(source, facts, fields, sheet))
        say(f"written: {html}")


def _page(source: WebDataset, facts: Mapping[str, Any], text: Sequence[str], sheet: int) -> str:
    import numpy as np

    from cluster.report.contact_sheet import render_sheet
    from pipelines.inspection import chosen, previews

    numbers = chosen(sheet, facts["looked_at"], facts["samples"])
    broken = [row["sample"] for row in facts["unreadable"]["examples"][:_BROKEN]]
    return render_sheet(
        facts["url"],
        facts,
        previews(source, numbers, text),
        previews(source, np.array(broken, np.int64), text),
    )


def _show(facts: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from cluster.report.contact_sheet_tables import tables

    out = Console(highlight=False)
    for table in tables(facts):
        note = f"  {table.note}" if table.note else ""
        title = Text.assemble((table.title, "bold red" if table.bad else "bold"), (note, "dim"))
        shown = Table(box=None, pad_edge=False, header_style="dim")
        for place, head in enumerate(table.head):
            words = place < table.words
            shown.add_column(head, justify="left" if words else "right", overflow="fold")
        for row in table.rows:
            shown.add_row(*(Text(printable(cell)) for cell in row))
        out.print(title)
        out.print(shown)
        out.print()
