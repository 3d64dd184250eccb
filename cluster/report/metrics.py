"""``metrics.jsonl``: a log that a crash may tear and a resume may rewind."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any


def parse_metrics(text: str) -> tuple[tuple[Mapping[str, float], ...], int]:
    """Read metrics lines; a torn last line is ignored.

    Where a run resumed from a checkpoint, sample counts go back: the lines
    after that checkpoint tell of a model that is gone, and are dropped.

    Returns:
        Lines ascending in samples, and how many other lines could not be read.
    """
    rows: list[Mapping[str, float]] = []
    damaged = 0
    lines = [line for line in text.split("\n") if line.strip()]
    for number, line in enumerate(lines, 1):
        row = _numbers(parse(line))
        if not math.isfinite(row.get("samples", math.nan)):
            damaged += number < len(lines)
            continue
        while rows and rows[-1]["samples"] >= row["samples"]:
            rows.pop()
        rows.append(row)
    return tuple(rows), damaged


def collapses(lines: Iterable[Mapping[str, float]]) -> list[int]:
    """Samples at which features were found collapsed: the first of each such stretch."""
    looks = [line for line in lines if "collapsed" in line]
    fine = [True, *(not line["collapsed"] for line in looks)]
    return [
        int(line["samples"])
        for before, line in zip(fine, looks, strict=False)
        if before and line["collapsed"]
    ]


def parse(text: str | bytes) -> Any:
    """Read JSON; None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _numbers(data: Any) -> dict[str, float]:
    if not isinstance(data, dict):
        return {}
    return {
        key: float(value)
        for key, value in data.items()
        if isinstance(value, float) or (type(value) is int and abs(value) < 2**63)
    }
