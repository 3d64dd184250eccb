from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.shards import storage
from trainers.trackers import jsonl
from trainers.trackers.jsonl import Jsonl


def samples_in(run: Path) -> list[int]:
    return [json.loads(x)["samples"] for x in (run / "metrics.jsonl").read_text().splitlines()]


def tracker(run: Path, samples: int = 0) -> Jsonl:
    return Jsonl(Jsonl.Config(), run=str(run), samples=samples)


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


def test_a_line_outlives_a_killed_run(tmp_path: Path) -> None:
    made = tracker(tmp_path)
    made.log({"loss": 1.0}, samples=8)
    assert samples_in(tmp_path) == [8]  # neither flushed nor closed
    made.close()


def test_an_object_store_gets_whole_files_now_and_then() -> None:
    run = "memory://runs/held"
    made = Jsonl(Jsonl.Config(interval=3600.0), run=run, samples=0)
    for samples in (8, 16, 24):
        made.log({"loss": 1.0}, samples=samples)
    assert storage.read_text(f"{run}/metrics.jsonl") == ""
    made.flush()
    assert storage.read_text(f"{run}/metrics.jsonl").count("\n") == 3
    made.log({"loss": 1.0}, samples=32)
    made.close()
    assert storage.read_text(f"{run}/metrics.jsonl").count("\n") == 4


def test_a_slow_store_is_written_to_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    now, writes = [0.0], []

    def write(url: str, text: str) -> None:
        now[0] += 2.0
        writes.append(now[0])

    monkeypatch.setattr(jsonl.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(jsonl.storage, "write_text", write)
    made = Jsonl(Jsonl.Config(interval=30.0), run="memory://runs/slow", samples=0)
    while now[0] < 1000:
        made.log({"loss": 1.0}, samples=8)
        now[0] += 1.0
    assert len(writes) == 1000 // 202 + 1


def test_a_resumed_run_drops_what_its_commit_does_not_have(tmp_path: Path) -> None:
    first = tracker(tmp_path)
    for samples in (8, 16, 24, 32):
        first.log({"loss": 1.0}, samples=samples)
    first.close()
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"samples": 40, "lo')  # killed while writing
    second = tracker(tmp_path, samples=16)
    second.log({"loss": 2.0}, samples=24)
    second.close()
    assert samples_in(tmp_path) == [8, 16, 24]


def test_it_writes_to_any_filesystem() -> None:
    made = Jsonl(Jsonl.Config(), run="memory://runs/jsonl", samples=0)
    made.log({"loss": 1.0}, samples=8)
    made.close()
    assert json.loads(storage.read_text("memory://runs/jsonl/metrics.jsonl"))["loss"] == 1.0
