from __future__ import annotations

import contextlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from pipelines.sources.synthetic import Synthetic
from tests.trainers.conftest import small_recipe
from trainers.recipe import Recipe

SAMPLES = 192


@pytest.fixture(scope="session")
def tars(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Pattern of three tars of drawn shapes."""
    folder = tmp_path_factory.mktemp("tars")
    source = Synthetic(Synthetic.Config(samples=SAMPLES, size=16))
    for shard, numbers in enumerate(np.array_split(np.arange(SAMPLES), 3)):
        with tarfile.open(folder / f"shapes-{shard}.tar", "w") as tar:
            for raw in source.read(numbers):
                for extension, data in raw.members.items():
                    info = tarfile.TarInfo(f"{raw.key}.{extension}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return f"{folder}/shapes-*.tar"


def tar_recipe(tars: str, **changes: Any) -> Recipe:
    data = {
        "source": {"kind": "webdataset", "url": tars},
        "decode": {"size": 16, "text": {"caption": "txt"}},
        "shuffle": {"chunk": 8, "window": 4},
    }
    given: dict[str, Any] = {"data": data, "samples": 320, "commit_every": 160, **changes}
    return small_recipe(**given)


def lines_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def train_workers() -> list[psutil.Process]:
    """Training workers of the clusters that these tests started, and of no other run here."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            name = " ".join(process.cmdline())
            if name.startswith("ray::") and "TrainWorker" in name:
                found.append(process)
    return found
