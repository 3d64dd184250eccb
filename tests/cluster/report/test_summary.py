import json
from pathlib import Path
from typing import Any

import pytest

from cluster.report import build_summary, write_summary
from pipelines.core import UserError

KEYS = [
    "samples_seen",
    "world_size",
    "seconds",
    "samples_per_second",
    "data_wait_share",
    "evaluation_pause_share",
    "quarantined",
    "checkpoints",
    "evaluations",
    "failures",
]


def result(evaluation: str, dataset: str, samples: int, chance: float) -> dict[str, object]:
    return {
        "evaluation": evaluation,
        "dataset": dataset,
        "samples": samples,
        "metrics": {"top1": 0.375, "top5": 0.625},
        "headline": "top1",
        "chance": chance,
        "examples": 200,
        "interval": [0.3125, 0.4375],
    }


def test_exact_values(run: Any) -> None:
    run.fail("retrieval", "emoji-unseen", 1024, "out of memory")
    assert build_summary(run.url) == {
        "samples_seen": 1024,
        "world_size": 2,
        "seconds": {"data": 1.5, "train": 20.0, "evaluate": 3.0, "total": 25.0},
        "samples_per_second": 51.2,
        "data_wait_share": 0.0125,
        "evaluation_pause_share": 0.003,
        "quarantined": 3,
        "checkpoints": [512, 1024],
        "evaluations": [
            result("zero_shot", "emoji-unseen", 512, 0.005),
            result("knn", "emoji-shift", 1024, 0.25),
            result("zero_shot", "emoji-unseen", 1024, 0.005),
        ],
        "failures": [
            {
                "evaluation": "retrieval",
                "dataset": "emoji-unseen",
                "samples": 1024,
                "error": "out of memory",
            }
        ],
    }


def test_absent_facts_are_null(empty_run: Any) -> None:
    summary = build_summary(empty_run(recipe__yaml="kind: clip"))
    assert list(summary) == KEYS
    assert summary["seconds"] == dict.fromkeys(("data", "train", "evaluate", "total"))
    assert all(summary[key] is None for key in KEYS if key.endswith(("seen", "size", "share")))
    assert summary["checkpoints"] == summary["evaluations"] == summary["failures"] == []


def test_written_json_has_no_nan(run: Any) -> None:
    run.evaluate("knn", "emoji-shift", 1024, interval=[float("nan"), 1.0])
    url = write_summary(run.url)
    assert url == f"{run.url}/summary.json"

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    summary = json.loads(Path(url).read_text(), parse_constant=refuse)
    assert summary["evaluations"][1]["interval"] == [None, 1.0]
    assert list(summary) == KEYS


def test_no_run(tmp_path: Any) -> None:
    with pytest.raises(UserError, match="no run there"):
        write_summary(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
