"""Each evaluation with its charts and its table of results."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from cluster.report import formats
from cluster.report.charts import Chart, are_shares, evaluation_chart
from cluster.report.read import RunView
from trainers.core.evaluation import EvaluationResult, Outcome

# Accuracies are shares, but a loss may lie in [0, 1] as well: the name decides.
_SHARES = re.compile(r"accuracy|top|recall|precision|share|@|unknown_labels|_r\d+$")
_COLUMNS = 4  # more metrics than this share one cell of the table


@dataclass(frozen=True)
class ResultRow:
    """One line of an evaluation's table."""

    dataset: str
    samples: str
    value: str
    interval: str
    chance: str
    times: str
    columns: tuple[str, ...]
    others: tuple[tuple[str, str], ...]
    examples: str


@dataclass(frozen=True)
class EvaluationView:
    """One evaluation: its charts and its table."""

    title: str
    headline: str
    columns: tuple[str, ...]
    others: bool
    rows: tuple[ResultRow, ...]
    charts: tuple[Chart, ...]


def evaluations(view: RunView) -> list[EvaluationView]:
    """Charts and tables, one of each evaluation."""
    found = []
    histories = list(view.histories().items())
    for index, (name, group) in enumerate(groupby(histories, key=lambda item: item[0][0])):
        series = [history for _, history in group]
        results = [result for history in series for result in history]
        outcomes = [result.outcome for result in results if result.outcome is not None]
        headline = outcomes[-1].headline
        names = dict.fromkeys(key for o in outcomes for key in o.metrics if key != headline)
        columns = tuple(names) if len(names) <= _COLUMNS else ()
        found.append(
            EvaluationView(
                title=formats.words(name),
                headline=headline,
                columns=columns,
                others=len(names) > len(columns),
                rows=tuple(
                    _result_row(result, outcome, columns, headline)
                    for result, outcome in zip(results, outcomes, strict=True)
                ),
                charts=tuple(
                    evaluation_chart(view, history, f"e{index}-{number}")
                    for number, history in enumerate(series)
                ),
            )
        )
    return found


def _result_row(
    result: EvaluationResult, outcome: Outcome, columns: Sequence[str], headline: str
) -> ResultRow:
    shares = are_shares([outcome])
    form = formats.share if shares else formats.number
    value = outcome.metrics[outcome.headline]
    low, high = outcome.interval
    rest = {k: _metric(k, v, outcome) for k, v in outcome.metrics.items() if k != headline}
    return ResultRow(
        dataset=result.dataset,
        samples=formats.count(result.samples),
        value=form(value),
        interval=formats.span(low, high, shares=shares),
        chance=form(outcome.chance),
        times=formats.times(value, outcome.chance),
        columns=tuple(rest.get(column, formats.NONE) for column in columns),
        others=() if columns else tuple(rest.items()),
        examples=formats.count(outcome.examples),
    )


def _metric(name: str, value: float, outcome: Outcome) -> str:
    if are_shares([outcome]) and 0 <= value <= 1 and _SHARES.search(name.lower()):
        return formats.share(value)
    return formats.number(value)
