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
