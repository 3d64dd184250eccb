"""``eagleray report``."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.cli._options import Json


def command(
    run: Annotated[str, typer.Argument(help="URL of the run.")],
    as_json: Json = False,
) -> None:
    """Write RUN/report.html and RUN/summary.json anew, also while the run goes on.

    Example: eagleray report runs/demo
    """
    from cluster.report import write_report, write_summary
    from pipelines.shards import storage

    summary = write_summary(run)
    report = write_report(run)
    print(storage.read_text(summary).rstrip() if as_json else report)
