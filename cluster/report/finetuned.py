"""What came of few labels, as one page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from cluster.report import formats, svg
from cluster.report.charts import Chart
from cluster.report.environment import fill
from cluster.report.gallery import GroupView, group_rows
from cluster.report.page import Tile, tile
from pipelines.shards import storage
from trainers.finetune import RESULTS, FinetuneResult, read_result
from trainers.finetune_task import Score
from trainers.model import RECIPE


@dataclass(frozen=True)
class StageRow:
    """One line of the table: a model, and its score with its interval on each set."""

    stage: str
    cells: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Examples:
    """Pictures of a set."""

    title: str
    groups: Sequence[GroupView]


def is_finetuned(folder: str) -> bool:
    """Whether a folder holds what came of ``finetune``."""
    return storage.exists(storage.join(folder, RESULTS))


def write_finetuned(folder: str) -> str:
    """Write ``report.html`` into the folder of results, whole or not at all.

    Returns:
        Its URL.

    Raises:
        DataError: The results are not of this program.
        UserError: There are none, or the folder cannot be written.
    """
    result = read_result(folder)
    url = storage.join(folder, "report.html")
    recipe = storage.read_text(storage.join(folder, RECIPE))
    storage.write_text(url, render_finetuned(result, recipe))
    return url


def render_finetuned(result: FinetuneResult, recipe: str) -> str:
    """Render results as one HTML page that needs no other file and runs nothing."""
    last = [score for score in result.scores if score.stage == result.scores[-1].stage]
    return fill(
        "finetuned.html",
        ("style.css", "print.css"),
        name=result.recipe,
        line=_line(result),
        tiles=[_tile(score) for score in last],
        headline=formats.words(last[0].outcome.headline),
        charts=ensemble_charts(result.scores),
        sets=[score.dataset for score in last],
        rows=[*stage_rows(result.scores), *_below(last)],
        labels=[(name, formats.count(count)) for name, count in result.labels.items()],
        examples=[
            Examples(f"{formats.words(score.stage)} · {score.dataset}", found)
            for score in last
            if (found := group_rows(score.outcome.gallery))
        ],
        facts=_facts(result),
        recipe=recipe,
    )


def _line(result: FinetuneResult) -> list[str]:
    origin = (
        f"tower pretrained on {formats.count(result.samples)} samples"
        if result.checkpoint
        else "tower of initial weights"
    )
    known = f"{formats.count(result.pictures)} pictures with labels"
    return [f"mode {result.mode}", origin, known, f"{len(result.classes)} classes"]


def _tile(score: Score) -> Tile:
    return tile(score.stage, score.dataset, 0, score.outcome)


def stage_rows(scores: Iterable[Score]) -> list[StageRow]:
    """A line for each model, in the order of scores."""
    rows: dict[str, list[tuple[str, str]]] = {}
    for score in scores:
        outcome = score.outcome
        value = formats.share(outcome.metrics[outcome.headline])
        cell = (value, formats.span(*outcome.interval, shares=True))
        rows.setdefault(score.stage, []).append(cell)
    return [StageRow(formats.words(stage), tuple(cells)) for stage, cells in rows.items()]


def _below(last: Sequence[Score]) -> list[StageRow]:
    return [
        StageRow("Chance", tuple((formats.share(s.outcome.chance), "") for s in last)),
        StageRow("Examples", tuple((formats.count(s.outcome.examples), "") for s in last)),
    ]


def ensemble_charts(scores: Sequence[Score]) -> list[Chart]:
    """A chart of each set over the share of the fine-tuned weights; none without such shares."""
    series: dict[str, list[Score]] = {}
    for score in scores:
        if score.alpha is not None:
            series.setdefault(score.dataset, []).append(score)
    return [
        _chart(name, found, f"f{number}")
        for number, (name, found) in enumerate(series.items())
        if len(found) > 1
    ]


def _chart(name: str, scores: Sequence[Score], prefix: str) -> Chart:
    scores = sorted(scores, key=lambda score: score.alpha or 0.0)
    outcomes = [score.outcome for score in scores]
    alphas = np.array([score.alpha for score in scores], dtype=np.float64)
    values = np.array([outcome.metrics[outcome.headline] for outcome in outcomes])
    low, high = (np.array([o.interval[side] for o in outcomes]) for side in (0, 1))

    def paint(axes: Axes) -> None:
        axes.fill_between(alphas, low, high, color=svg.ACCENT, alpha=0.18, linewidth=0)
        axes.plot(alphas, values, color=svg.ACCENT, linewidth=1.8, marker="o", markersize=4)
        axes.set_xlim(-0.03, 1.03)
        axes.xaxis.set_major_locator(FixedLocator((0, 0.25, 0.5, 0.75, 1)))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: formats.axis_share(value)))

    metric = formats.metric(outcomes[0].headline)
    first, last = (formats.share(float(value)) for value in (values[0], values[-1]))
    summary = (
        f"{name}: {metric} {first} before fine-tuning, {last} after it, and at best "
        f"{formats.share(float(values.max()))} at a share of {alphas[values.argmax()]:g}."
    )
    return Chart(name, metric, summary, svg.draw(prefix, paint))


def _facts(result: FinetuneResult) -> list[tuple[str, str]]:
    return [
        ("Checkpoint", result.checkpoint or formats.NONE),
        ("Digest", result.digest or formats.NONE),
        ("Time", formats.duration(result.seconds)),
    ]
