"""The run in numbers, for machines: ``RUN/summary.json``."""

from __future__ import annotations

import json
import math
from typing import Any

from cluster.report.facts import Seconds
from cluster.report.read import RunView, read_run
from pipelines.shards import storage
from trainers.core.evaluation import EvaluationResult, Outcome


def build_summary(run: str) -> dict[str, Any]:
    """Summarise a run; what it has not written, and what is not finite, is None.

    Raises:
        UserError: There is no run.
    """
    return summarise(read_run(run))


def write_summary(run: str) -> str:
    """Write ``RUN/summary.json``, whole or not at all.

    Returns:
        Its URL.

    Raises:
        UserError: There is no run, or its folder cannot be written.
    """
    url = storage.join(run, "summary.json")
    text = json.dumps(build_summary(run), indent=2, ensure_ascii=False, allow_nan=False)
    storage.write_text(url, text + "\n")
    return url


def summarise(view: RunView) -> dict[str, Any]:
    """Summarise a run that has been read."""
    facts = view.facts
    summary: dict[str, Any] = {
        "samples_seen": view.samples_seen,
        "world_size": facts.world_size,
        "seconds": (facts.seconds or Seconds()).model_dump(),
        "samples_per_second": facts.samples_per_second,
        "data_wait_share": facts.data_wait_share,
        "evaluation_pause_share": facts.evaluation_pause_share,
        "quarantined": facts.quarantined,
        "checkpoints": list(view.checkpoints),
        "evaluations": [
            _result(result, result.outcome) for result in view.results if result.outcome
        ],
        "failures": [
            {
                "evaluation": result.evaluation,
                "dataset": result.dataset,
                "samples": result.samples,
                "error": result.error,
            }
            for result in view.failures
        ],
    }
    finite: dict[str, Any] = _finite(summary)
    return finite


def _result(result: EvaluationResult, outcome: Outcome) -> dict[str, Any]:
    return {
        "evaluation": result.evaluation,
        "dataset": result.dataset,
        "samples": result.samples,
        "metrics": dict(outcome.metrics),
        "headline": outcome.headline,
        "chance": outcome.chance,
        "examples": outcome.examples,
        "interval": list(outcome.interval),
    }


def _finite(value: Any) -> Any:
    # JSON has neither NaN nor infinity.
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
