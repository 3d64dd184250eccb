"""A finished run, on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from cluster.cli._terminal import printable

if TYPE_CHECKING:
    from cluster.run import Finished


def show(finished: Finished) -> None:
    """Print the newest evaluation results and where the report is."""
    summary = finished.summary
    console = Console()
    results = summary["evaluations"]
    if results:
        console.print(_table(results))
    for failure in summary["failures"]:
        what = f"{failure['evaluation']} {failure['dataset']} at {failure['samples']} samples"
        console.print(printable(f"{what} failed: {failure['error']}"), markup=False)
    if summary["quarantined"]:
        console.print(
            f"{summary['quarantined']:,} samples left out, unreadable: "
            f"see {finished.run}/quarantine.parquet",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    seconds = summary["seconds"]
    console.print(
        f"{summary['samples_seen']:,} samples in {seconds['train']:.0f} s of training "
        f"({summary['samples_per_second']:.0f}/s, data wait "
        f"{100 * summary['data_wait_share']:.1f} %), {seconds['total']:.0f} s in all",
        highlight=False,
    )
    console.print(f"report: {finished.report}", markup=False, highlight=False, soft_wrap=True)


def _table(results: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("evaluation", "data", "metric"):
        table.add_column(name)
    for name in ("value", "95 % interval", "chance", "examples"):
        table.add_column(name, justify="right")
    newest = max(result["samples"] for result in results)
    for result in results:
        if result["samples"] == newest:
            low, high = result["interval"]
            table.add_row(
                result["evaluation"],
                result["dataset"],
                result["headline"],
                f"{100 * result['metrics'][result['headline']]:.1f} %",
                f"{100 * low:.1f} to {100 * high:.1f} %",
                f"{100 * result['chance']:.2g} %",
                f"{result['examples']:,}",
            )
    return table
