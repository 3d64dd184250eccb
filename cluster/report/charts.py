"""Charts over training: curves of the run's metrics, and evaluations with their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cluster.report import formats, svg
from cluster.report.read import RunView
from trainers.core.evaluation import EvaluationResult, Outcome

_POINTS = 120  # more lines of metrics than this are drawn as means and ranges
_CURVES = 12
_PROGRESS = ("samples", "step", "epoch", "seconds")
_FIRST = (
    *("loss", "samples_per_second", "data_wait_share", "learning_rate", "grad_norm"),
    *("feature_rank", "feature_spread"),
)
_LAST = ("mfu", "memory_bytes", "flops_per_second", "seconds_", "collapsed")
_TITLES = {
    "samples_per_second": "Samples per second",
    "data_wait_share": "Waiting for data",
    "grad_norm": "Gradient norm",
}
_FROM_ZERO = ("samples_per_second", "data_wait_share", "learning_rate", "grad_norm")
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Chart:
    """One drawn chart.

    Attributes:
        title: Its heading.
        note: The metric, where the heading does not say it.
        summary: What it shows, for those who do not see it.
        svg: The drawing.
    """

    title: str
    note: str
    summary: str
    svg: Markup


def training_charts(view: RunView) -> list[Chart]:
    """Curves of the metrics that the run logged: the common ones first, how it computed last."""
    named = dict.fromkeys(key for row in view.metrics for key in row if key not in _PROGRESS)
    others = [key for key in named if key not in _FIRST]
    keys = [key for key in _FIRST if key in named]
    keys += sorted(others, key=_lateness)
    charts = (_curve(view, key, f"t{i}") for i, key in enumerate(keys[:_CURVES]))
    return [chart for chart in charts if chart is not None]


def _lateness(key: str) -> int:
    return next((place for place, name in enumerate(_LAST, 1) if key.startswith(name)), 0)


def evaluation_chart(view: RunView, history: Sequence[EvaluationResult], prefix: str) -> Chart:
    """Draw the headline metric of one evaluation on one dataset, with its interval and chance.

    Args:
        view: The run, for the extent of training and its commits.
        history: Results with an outcome, ascending in samples; at least one.
        prefix: A word that no other chart of the page has.
    """
    outcomes = [result.outcome for result in history if result.outcome is not None]
    samples = np.array([result.samples for result in history], dtype=np.float64)
    values = np.array([outcome.metrics[outcome.headline] for outcome in outcomes])
    low, high = (np.array([o.interval[side] for o in outcomes]) for side in (0, 1))
    chance = np.array([outcome.chance for outcome in outcomes])
    shares = are_shares(outcomes)

    def paint(axes: Axes) -> None:
        _frame(axes, view, formats.axis_share if shares else _tick)
        if len(samples) >= 4:
            axes.fill_between(samples, low, high, color=svg.ACCENT, alpha=0.18, linewidth=0)
        else:
            axes.vlines(samples, low, high, color=svg.ACCENT, alpha=0.55, linewidth=2)
        axes.plot(samples, values, color=svg.ACCENT, linewidth=1.8, marker="o", markersize=4)
        axes.axhline(float(chance[-1]), color=svg.CHANCE, linewidth=1.3, linestyle=(0, (4, 3)))
        if shares:
            top = np.nanmax(np.concatenate([values, high, chance, [0.01]]))
            top = min(1.02, 1.12 * float(top))
            axes.set_ylim(-0.06 * top, top)  # room below zero, where chance often is

    last = outcomes[-1]
    form = formats.share if shares else formats.number
    title = f"{formats.words(history[0].evaluation)} · {history[0].dataset}"
    metric = formats.metric(last.headline)
    summary = (
        f"{title}: {metric} {form(float(values[-1]))} at {samples[-1]:,.0f} samples, "
        f"95 % interval {formats.span(*last.interval, shares=shares)}, "
        f"chance {form(last.chance)}; {len(samples)} checkpoint{'s' * (len(samples) > 1)}."
    )
    return Chart(title, metric, summary, svg.draw(prefix, paint))


def are_shares(outcomes: Sequence[Outcome]) -> bool:
    """Whether headline metrics lie in [0, 1] with all that belongs to them."""
    return all(
        0.0 <= value <= 1.0 or math.isnan(value)
        for outcome in outcomes
        for value in (outcome.metrics[outcome.headline], outcome.chance, *outcome.interval)
    )


def _curve(view: RunView, key: str, prefix: str) -> Chart | None:
    rows = [row for row in view.metrics if key in row]
    samples = np.array([row["samples"] for row in rows])
    values = np.array([row[key] for row in rows])
    known = values[np.isfinite(values)]
    if not known.size:
        return None
    shares = key.endswith("_share") or (key.endswith("accuracy") and known.max() <= 1)

    def paint(axes: Axes) -> None:
        _frame(axes, view, formats.axis_share if shares else _tick)
        x, mean, low, high = _buckets(samples, values)
        if len(x) < len(samples):
            axes.fill_between(x, low, high, color=svg.ACCENT, alpha=0.18, linewidth=0)
        marker = "o" if len(x) < 3 else ""
        axes.plot(x, mean, color=svg.ACCENT, linewidth=1.6, marker=marker, markersize=4)
        if key in _FROM_ZERO:
            axes.set_ylim(0, max(1.12 * float(known.max()), 1e-2 if shares else 1e-12))

    form = formats.share if shares else formats.number
    title = _TITLES.get(key, formats.words(key))
    summary = (
        f"{title} over {samples[-1]:,.0f} samples: first {form(float(values[0]))}, "
        f"last {form(float(values[-1]))}, lowest {form(float(known.min()))}, "
        f"highest {form(float(known.max()))}."
    )
    return Chart(title, "", summary, svg.draw(prefix, paint))


def _buckets(samples: Floats, values: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Shorten a series to about ``_POINTS``: middle, mean, least and greatest of each bucket."""
    if len(samples) <= _POINTS:
        return samples, values, values, values
    starts = np.unique(np.linspace(0, len(samples), _POINTS, endpoint=False).astype(int))
    sizes = np.diff(np.append(starts, len(samples)))
    return (
        np.add.reduceat(samples, starts) / sizes,
        np.add.reduceat(values, starts) / sizes,
        np.fmin.reduceat(values, starts),
        np.fmax.reduceat(values, starts),
    )


def _frame(axes: Axes, view: RunView, tick: Callable[[float], str]) -> None:
    seen = [view.samples_seen or 0, *view.checkpoints, *(r.samples for r in view.results)]
    extent = max([*seen, *(int(row["samples"]) for row in view.metrics[-1:]), 1])
    axes.set_xlim(0, 1.02 * extent)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: formats.compact(value)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    if view.checkpoints:
        # Marks on the lower edge: lines through the chart would hide it once there are many.
        edge = axes.get_xaxis_transform()
        axes.vlines(view.checkpoints, 0, 0.045, color=svg.INK, linewidth=1.2, transform=edge)


def _tick(value: float) -> str:
    if 0 < abs(value) < 2e-3:
        return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-")
    return formats.compact(value) if abs(value) >= 1000 else f"{value:.4g}"
