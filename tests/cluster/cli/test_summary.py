from __future__ import annotations

from typing import Any

import pytest

from cluster.cli._summary import show
from cluster.run import Finished

SUMMARY: dict[str, Any] = {
    "evaluations": [],
    "failures": [],
    "quarantined": 0,
    "samples_seen": 1280,
    "samples_per_second": 64.0,
    "data_wait_share": 0.001,
    "seconds": {"train": 20.0, "total": 30.0},
}
RESULT: dict[str, Any] = {
    "evaluation": "knn",
    "dataset": "shapes",
    "headline": "top1",
    "interval": (0.4, 0.6),
    "chance": 0.1,
    "examples": 1200,
}
LINE = "1,280 samples in 20 s of training (64/s, data wait 0.1 %), 30 s in all"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, []),
        ({"quarantined": None}, []),
        (
            {"quarantined": 1200},
            ["1,200 samples left out, unreadable: see s3://b/run/quarantine.parquet"],
        ),
        (
            {"failures": [{"evaluation": "knn", "dataset": "a", "samples": 64, "error": "[x] y"}]},
            ["knn a at 64 samples failed: [x] y"],
        ),
    ],
)
def test_what_a_run_ends_with(
    capsys: pytest.CaptureFixture[str], changes: dict[str, Any], told: list[str]
) -> None:
    show(Finished("s3://b/run", SUMMARY | changes, "s3://b/run/report.html"))
    assert capsys.readouterr().out.splitlines() == [
        *told,
        LINE,
        "report: s3://b/run/report.html",
    ]


def test_of_all_commits_the_newest_ones_scores_are_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    scores = {640: 0.25, 1280: 0.5, 64: 0.75}
    results = [RESULT | {"samples": n, "metrics": {"top1": top1}} for n, top1 in scores.items()]
    results.insert(0, results[1] | {"dataset": "shift", "metrics": {"top1": 0.125}})
    show(Finished("s3://b/run", SUMMARY | {"evaluations": results}, "s3://b/run/report.html"))
    _, *rows, last, _ = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert " ".join(last) == LINE
    told = ["40.0", "to", "60.0", "%", "10", "%", "1,200"]
    assert rows == [
        ["knn", "shift", "top1", "12.5", "%", *told],
        ["knn", "shapes", "top1", "50.0", "%", *told],
    ]
