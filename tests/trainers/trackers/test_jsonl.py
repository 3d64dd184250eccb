from __future__ import annotations

import json
from pathlib import Path

from trainers.trackers.jsonl import Jsonl


def samples_in(run: Path) -> list[int]:
    return [json.loads(x)["samples"] for x in (run / "metrics.jsonl").read_text().splitlines()]


def tracker(run: Path, samples: int = 0) -> Jsonl:
    return Jsonl(Jsonl.Config(interval=0.0), run=str(run), samples=samples)


def test_every_line_is_written(tmp_path: Path) -> None:
    made = tracker(tmp_path)
    made.log({"loss": 1.0}, samples=8)
    made.log({"loss": 0.5}, samples=16)
    made.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"samples": 8, "loss": 1.0},
        {"samples": 16, "loss": 0.5},
    ]


def test_lines_are_held_back_until_closed(tmp_path: Path) -> None:
    made = Jsonl(Jsonl.Config(interval=3600.0), run=str(tmp_path), samples=0)
    for samples in (8, 16, 24):
        made.log({"loss": 1.0}, samples=samples)
    made.close()
    assert samples_in(tmp_path) == [8, 16, 24]


def test_flushed_lines_outlive_a_killed_run(tmp_path: Path) -> None:
    made = Jsonl(Jsonl.Config(interval=3600.0), run=str(tmp_path), samples=0)
    for samples in (8, 16, 24):
        made.log({"loss": 1.0}, samples=samples)
    made.flush()
    assert samples_in(tmp_path) == [8, 16, 24]


def test_a_resumed_run_drops_what_its_commit_does_not_have(tmp_path: Path) -> None:
    first = tracker(tmp_path)
    for samples in (8, 16, 24, 32):
        first.log({"loss": 1.0}, samples=samples)
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"samples": 40, "lo')  # killed while writing
    second = tracker(tmp_path, samples=16)
    second.log({"loss": 2.0}, samples=24)
    assert samples_in(tmp_path) == [8, 16, 24]


def test_it_writes_to_any_filesystem() -> None:
    from pipelines.shards import storage

    made = Jsonl(Jsonl.Config(), run="memory://runs/jsonl", samples=0)
    made.log({"loss": 1.0}, samples=8)
    made.close()
    assert json.loads(storage.read_text("memory://runs/jsonl/metrics.jsonl"))["loss"] == 1.0
