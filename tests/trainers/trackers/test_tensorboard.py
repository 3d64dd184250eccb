from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipelines.shards import storage
from trainers.trackers import tensorboard
from trainers.trackers.tensorboard import Tensorboard


def tracker(run: str, samples: int = 0) -> Tensorboard:
    return Tensorboard(Tensorboard.Config(), run=run, samples=samples)


def curve(folder: Path, name: str) -> list[tuple[int, float]]:
    found = EventAccumulator(str(folder))
    found.Reload()
    return [(event.step, event.value) for event in found.Scalars(name)]


def test_every_metric_is_a_curve_over_samples(tmp_path: Path) -> None:
    made = tracker(str(tmp_path))
    made.log({"loss": 1.0, "accuracy": 0.25}, samples=8)
    made.log({"loss": 0.5, "accuracy": 0.5}, samples=16)
    made.close()
    assert curve(tmp_path / "tensorboard", "loss") == [(8, 1.0), (16, 0.5)]
    assert curve(tmp_path / "tensorboard", "accuracy") == [(8, 0.25), (16, 0.5)]


def test_a_line_can_be_seen_while_the_run_goes_on(tmp_path: Path) -> None:
    made = tracker(str(tmp_path))
    made.log({"loss": 1.0}, samples=8)
    assert curve(tmp_path / "tensorboard", "loss") == [(8, 1.0)]
    made.close()


def test_a_resumed_run_drops_what_its_commit_does_not_have(tmp_path: Path) -> None:
    first = tracker(str(tmp_path))
    for samples in (8, 16, 24, 32):
        first.log({"loss": 1.0}, samples=samples)
    first.close()
    second = tracker(str(tmp_path), samples=16)
    second.log({"loss": 2.0}, samples=24)
    second.close()
    assert curve(tmp_path / "tensorboard", "loss") == [(8, 1.0), (16, 1.0), (24, 2.0)]


def test_it_writes_to_any_filesystem(memory: str, tmp_path: Path) -> None:
    made = tracker(memory)
    made.log({"loss": 1.0}, samples=8)
    assert storage.names(f"{memory}/tensorboard") == []  # held back: 30 s have not passed
    made.flush()
    (name,) = storage.names(f"{memory}/tensorboard")
    made.log({"loss": 0.5}, samples=16)
    made.close()
    (tmp_path / name).write_bytes(storage.read_bytes(f"{memory}/tensorboard/{name}"))
    assert curve(tmp_path, "loss") == [(8, 1.0), (16, 0.5)]


def test_a_slow_store_is_written_to_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    now, writes = [0.0], []

    def write(url: str, data: bytes) -> None:
        now[0] += 2.0
        writes.append(now[0])

    monkeypatch.setattr(tensorboard.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(tensorboard.storage, "write_atomic", write)
    made = Tensorboard(Tensorboard.Config(interval=30.0), run="memory://runs/slow", samples=0)
    while now[0] < 1000:
        made.log({"loss": 1.0}, samples=8)
        now[0] += 1.0
    assert len(writes) == 1 + (1000 - 32) // 202
    made.close()
