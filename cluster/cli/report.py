"""``eagleray report``."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.cli._options import Json


def command(
    run: Annotated[str, typer.Argument(help="URL of the run, or of what came of finetune.")],
    as_json: Json = False,
) -> None:
    """Write RUN/report.html and RUN/summary.json anew, also while the run goes on.

    Of the folder of a finetune, the report alone.

    Example: eagleray report runs/demo
    """
    from cluster.report import is_finetuned, write_finetuned, write_report, write_summary
    from pipelines.shards import storage

    if is_finetuned(run):
        from trainers.finetune import read_result

        report = write_finetuned(run)
        print(read_result(run).without_pictures() if as_json else report)
        return
    summary = write_summary(run)
    report = write_report(run)
    print(storage.read_text(summary).rstrip() if as_json else report)
