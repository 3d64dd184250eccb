"""The page: a template filled with plain values. Nothing of a run is ever marked safe."""

from __future__ import annotations

from cluster.report import formats, page
from cluster.report.charts import training_charts
from cluster.report.environment import fill
from cluster.report.gallery import group_rows
from cluster.report.read import RunView, read_run
from cluster.report.tables import evaluations
from pipelines.shards import storage


def render_report(run: str) -> str:
    """Render a run as one HTML page that needs no other file.

    Args:
        run: Any fsspec URL of a run's folder; the run may be unfinished.

    Raises:
        UserError: There is no run.
    """
    return render(read_run(run))


def write_report(run: str) -> str:
    """Write ``RUN/report.html``, whole or not at all.

    Returns:
        Its URL.

    Raises:
        UserError: There is no run, or its folder cannot be written.
    """
    url = storage.join(run, "report.html")
    storage.write_text(url, render_report(run))
    return url


def render(view: RunView) -> str:
    """Render a run that has been read."""
    return fill(
        "template.html",
        ("style.css", "print.css"),
        run=view,
        facts=view.facts,
        name=view.facts.name or view.url.rstrip("/").rpartition("/")[2],
        started=formats.moment(view.facts.started),
        tiles=page.tiles(view),
        speed=page.speed(view),
        ran=page.what_ran(view),
        events=page.events(view),
        curves=training_charts(view),
        evaluations=evaluations(view),
        failures=page.failures(view),
        galleries=page.galleries(view),
        views=group_rows(view.views),
    )
