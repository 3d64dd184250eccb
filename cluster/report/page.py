"""What the page says, as plain values for the template."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from cluster.report import formats
from cluster.report.charts import are_shares
from cluster.report.facts import Seconds
from cluster.report.gallery import GroupView, group_rows
from cluster.report.read import RunView
from trainers.core.evaluation import Outcome

Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Tile:
    """The latest word of one evaluation on one dataset; ``gauge`` is in per cent of the scale."""

    title: str
    dataset: str
    value: str
    metric: str
    interval: str
    chance: str
    times: str
    verdict: str
    samples: str
    gauge: Mapping[str, float] | None


@dataclass(frozen=True)
class GalleryView:
    """Examples of one evaluation on one dataset."""

    title: str
    samples: str
    groups: tuple[GroupView, ...]


def tiles(view: RunView) -> list[Tile]:
    """Latest headline of each evaluation and dataset."""
    found = []
    for history in view.histories().values():
        last = history[-1]
        if last.outcome is not None:
            found.append(tile(last.evaluation, last.dataset, last.samples, last.outcome))
    return found


def tile(title: str, dataset: str, samples: int, outcome: Outcome) -> Tile:
    """The headline of one outcome."""
    shares = are_shares([outcome])
    value = outcome.metrics[outcome.headline]
    low, high = outcome.interval
    form = formats.share if shares else formats.number
    points = {"low": low, "high": high, "value": value, "chance": outcome.chance}
    finite = all(math.isfinite(point) for point in points.values())
    return Tile(
        title=formats.words(title),
        dataset=dataset,
        value=form(value),
        metric=formats.metric(outcome.headline),
        interval=formats.span(low, high, shares=shares),
        chance=form(outcome.chance),
        times=formats.times(value, outcome.chance),
        verdict=_verdict(low, high, outcome.chance),
        samples=formats.count(samples),
        gauge={k: round(100 * v, 2) for k, v in points.items()} if shares and finite else None,
    )


def _verdict(low: float, high: float, chance: float) -> str:
    if low > chance:
        return "above chance"
    if high < chance:
        return "below chance"
    return "not distinguishable from chance" if low <= chance <= high else ""


def galleries(view: RunView) -> list[GalleryView]:
    """Latest examples of each evaluation and dataset that filed some."""
    found = []
    for (evaluation, dataset), history in view.histories().items():
        for result in reversed(history):
            if result.outcome is not None and result.outcome.gallery:
                title = f"{formats.words(evaluation)} · {dataset}"
                groups = tuple(group_rows(result.outcome.gallery))
                found.append(GalleryView(title, formats.count(result.samples), groups))
                break
    return found


def speed(view: RunView) -> list[tuple[str, str, str]]:
    """Tiles of throughput: name, value, remark."""
    facts, seconds = view.facts, view.facts.seconds or Seconds()
    planned = facts.samples_planned
    phases = {"data": seconds.data, "train": seconds.train, "evaluate": seconds.evaluate}
    split = " · ".join(f"{k} {formats.duration(v)}" for k, v in phases.items() if v is not None)
    plan = f"of {formats.count(planned)} planned" if planned is not None else ""
    quarantined = "left out, unreadable" if facts.quarantined else ""
    return [
        ("Samples seen", formats.count(view.samples_seen), plan),
        ("Samples per second", formats.number(facts.samples_per_second), ""),
        ("Waiting for data", formats.share(facts.data_wait_share), "of training time"),
        ("Evaluation pause", formats.share(facts.evaluation_pause_share), "of training time"),
        ("Total time", formats.duration(seconds.total), split),
        ("Quarantined samples", formats.count(facts.quarantined), quarantined),
    ]


def what_ran(view: RunView) -> list[tuple[str, Pairs]]:
    """Rows of the table of what ran: heading, and named values; an absent fact has a dash."""
    facts = view.facts
    return [
        ("Command", _one(facts.command)),
        ("Recipe", _one(facts.recipe)),
        ("Started", _one(formats.moment(facts.started))),
        ("Folder", _one(view.url)),
        ("Dataset", _pairs(facts.dataset)),
        ("Parameters", _one(formats.count(facts.parameters))),
        ("Workers", _one(f"{formats.count(facts.world_size)} on {facts.device or formats.NONE}")),
        ("Engine", _pairs(facts.engine)),
        ("Host", _pairs(facts.host)),
        ("Versions", _pairs(facts.versions)),
        ("Checkpoints", _one(_checkpoints(view.checkpoints))),
    ]


def _one(value: str | None) -> Pairs:
    return [("", value or formats.NONE)]


def _pairs(values: Mapping[str, JsonValue] | None) -> Pairs:
    if not values:
        return _one(None)
    return [(key.replace("_", " "), _plain(value)) for key, value in values.items()]


def _plain(value: JsonValue) -> str:
    if value is None:
        return "none"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return value if isinstance(value, str) else json.dumps(value)


def _checkpoints(samples: tuple[int, ...]) -> str:
    if len(samples) > 12:
        return f"{len(samples)}, the latest at {formats.count(samples[-1])} samples"
    return "at " + ", ".join(map(formats.count, samples)) if samples else formats.NONE


def events(view: RunView) -> list[tuple[str, str, str]]:
    """What happened: time, samples, text."""
    return [(formats.moment(e.at), formats.count(e.samples), e.text) for e in view.facts.events]


def failures(view: RunView) -> list[tuple[str, str, str]]:
    """Evaluations without a result: name, samples, error."""
    return [
        (
            f"{formats.words(result.evaluation)} · {result.dataset}",
            formats.count(result.samples),
            result.error or "No reason was given.",
        )
        for result in view.failures
    ]
