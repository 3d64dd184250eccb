"""The rows of ``methods.json`` as a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Row = Mapping[str, Any]

_HEAD = """\
# What the image methods learn

Made by `python -m tests.benchmarks.methods`, from `methods.json`. Accuracies in %, with the 95 %
interval of the test data; *untrained* is the same tower at random initialisation, *pixels* the
nearest neighbour by the cosine of raw pixels. *train* is minutes of training, which other work on
the machine makes longer.
"""
_COLUMNS = (
    "method",
    "seed",
    "samples",
    "train",
    "proxy (chance)",
    "kNN",
    "untrained",
    "linear probe",
    "untrained",
    "pixels",
    "date",
)


def table(rows: Iterable[Row]) -> str:
    """Write a table for every data set."""
    sets: dict[str, list[Row]] = {}
    for row in rows:
        sets.setdefault(row["data"], []).append(row)
    parts = [_HEAD]
    for name, found in sets.items():
        lines = [_COLUMNS, ("---",) * len(_COLUMNS), *(_cells(row) for row in found)]
        parts.append(f"## {name}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines))
    return "\n".join(parts)


def _cells(row: Row) -> tuple[str, ...]:
    proxy = row["scores"].get("proxy")
    return (
        row["method"],
        str(row["seed"]),
        f"{row['samples']:,}",
        f"{row['seconds']['train'] / 60:.1f}",
        f"{_percent(proxy)} ({100 * proxy['chance']:.1f})" if proxy else "none",
        _percent(row["scores"]["knn"]),
        f"{100 * row['untrained']['knn']['accuracy']:.1f}",
        _percent(row["scores"]["linear_probe"]),
        f"{100 * row['untrained']['linear_probe']['accuracy']:.1f}",
        f"{100 * row['pixels']:.1f}",
        row["date"],
    )


def _percent(score: Row) -> str:
    low, high = score["interval"]
    return f"{100 * score['accuracy']:.1f} ({100 * low:.1f} to {100 * high:.1f})"
