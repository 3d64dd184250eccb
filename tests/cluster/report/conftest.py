"""A run folder as training leaves it, small and from random numbers."""

import base64
import json
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

CHECKPOINTS = (512, 1024)


def _png(seed: int) -> str:
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = b"".join(b"\0" + random.Random(seed + y).randbytes(12) for y in range(4))
    header = struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).decode()


class RunFolder:
    """Builds a run; a test changes what it is about."""

    def __init__(self, root: Path):
        self.root = root
        self.url = str(root)
        self.picture = _png(7)
        root.mkdir(parents=True)
        (root / "recipe.yaml").write_text("kind: clip\nseed: 1\n")
        self.write("run.json", self.facts())
        lines = (json.dumps(self.line(samples)) for samples in range(64, 1025, 64))
        (root / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
        for samples in CHECKPOINTS:
            self.write(f"checkpoints/{samples:012}/manifest.json", {})
            self.evaluate("zero_shot", "emoji-unseen", samples)
        self.evaluate("knn", "emoji-shift", CHECKPOINTS[-1], chance=0.25)
        cells = [
            {"image": self.picture, "text": "original", "mark": "query"},
            {"image": _png(8), "text": "view 1"},
        ]
        self.write("views.json", {"rows": [{"group": "originals and views", "cells": cells}]})

    def write(self, name: str, data: object) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data))
        return path

    def facts(self) -> dict[str, object]:
        return {
            "name": "clip-emoji-1",
            "recipe": "clip-emoji",
            "command": "eagleray train clip-emoji",
            "started": "2026-01-02T03:04:05+00:00",
            "finished": True,
            "world_size": 2,
            "device": "cpu",
            "engine": {"zero_stage": 0, "precision": "fp32"},
            "host": {"cpus": 2, "memory_gib": 24.0, "accelerator": None},
            "versions": {"eagleray": "0.1.0", "ray": "2.60.0"},
            "dataset": {"url": "memory://emoji", "samples": 5116, "shards": 6, "digest": "ab12"},
            "parameters": 1234567,
            "seconds": {"data": 1.5, "train": 20.0, "evaluate": 3.0, "total": 25.0},
            "samples_seen": 1024,
            "samples_planned": 1024,
            "samples_per_second": 51.2,
            "data_wait_share": 0.0125,
            "evaluation_pause_share": 0.003,
            "quarantined": 3,
            "events": [{"at": "2026-01-02T03:05:00+00:00", "samples": 512, "text": "resumed"}],
        }

    def line(self, samples: int) -> dict[str, float]:
        draw = random.Random(samples)
        return {
            "samples": samples,
            "step": samples // 64,
            "epoch": samples / 5116,
            "loss": 5.0 / samples**0.1 + draw.random(),
            "learning_rate": 1e-3 * samples / 1024,
            "grad_norm": draw.random(),
            "samples_per_second": 50 + draw.random(),
            "data_wait_share": 0.01 * draw.random(),
            "seconds": samples / 50,
            "accuracy": draw.random(),
        }

    def outcome(self, value: float = 0.375, **changes: object) -> dict[str, object]:
        cells = [
            {"image": self.picture, "text": "red heart", "mark": "query"},
            {"text": "red heart", "score": 0.75, "mark": "right"},
            {"text": "blue heart", "score": 0.125},
        ]
        return {
            "metrics": {"top1": value, "top5": 0.625},
            "headline": "top1",
            "chance": 0.005,
            "examples": 200,
            "interval": [value - 0.0625, value + 0.0625],
            "gallery": [{"group": "correct", "cells": cells}],
        } | changes

    def evaluate(self, evaluation: str, dataset: str, samples: int, **changes: object) -> Path:
        result = {
            "evaluation": evaluation,
            "dataset": dataset,
            "samples": samples,
            "checkpoint": f"memory://run/{samples}",
            "digest": "cd34",
            "status": "ok",
            "seconds": 1.0,
            "outcome": self.outcome(**changes),
        }
        return self.write(f"evaluations/{samples:012}/{evaluation}-{dataset}.json", result)

    def fail(self, evaluation: str, dataset: str, samples: int, error: str) -> None:
        path = self.evaluate(evaluation, dataset, samples)
        result = json.loads(path.read_text())
        path.write_text(json.dumps(result | {"status": "failed", "outcome": None, "error": error}))


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


@pytest.fixture
def empty_run(tmp_path: Path) -> Callable[..., str]:
    def make(**files: str) -> str:
        root = tmp_path / "bare"
        root.mkdir()
        for name, text in files.items():
            (root / name.replace("__", ".")).write_text(text)
        return str(root)

    return make
