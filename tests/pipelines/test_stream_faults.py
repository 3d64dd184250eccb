"""Readers that die or stall while a stream goes on."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ray import cloudpickle

from pipelines.core.source import Part, RawSample
from pipelines.reader import DataConfig, Reader, Share
from pipelines.reader_config import ReaderConfig
from pipelines.stream import stream, stream_here

SAMPLES, BATCH = 20_000, 500
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Doomed:
    """Samples whose reader dies or hangs as often as there are tokens in a folder."""

    digest, shards, faults = "doomed", 0, ()

    def __init__(self, tokens: Path, fate: str, samples: int = SAMPLES):
        self._tokens, self._fate, self._samples = tokens, fate, samples

    @property
    def parts(self) -> tuple[Part]:
        return (Part(self._samples),)

    def read(self, samples: np.ndarray) -> Iterator[RawSample]:
        fatal = int(samples.sum()) % len(samples)
        for place, sample in enumerate(samples.tolist()):
            if place == fatal and self._takes_a_token():
                self._die()
            yield RawSample("s.tar", f"{sample:06d}", {"txt": b"%d" % sample})

    def _takes_a_token(self) -> bool:
        for token in self._tokens.iterdir():
            try:
                token.unlink()
            except FileNotFoundError:
                continue  # another reader was faster
            return True
        return False

    def _die(self) -> None:
        if self._fate == "hangs":
            time.sleep(1000)
        os.kill(os.getpid(), signal.SIGKILL)


def reader(tokens: Path, fate: str, samples: int = SAMPLES) -> Reader:
    data = DataConfig.model_validate(
        {
            "source": {"kind": "synthetic"},
            "decode": {"size": None, "text": {"number": "txt"}},
            "shuffle": {"chunk": 16, "window": 32},
        }
    )
    return Reader(Doomed(tokens, fate, samples), data, seed=2)


def with_tokens(folder: Path, count: int) -> Path:
    for number in range(count):
        (folder / str(number)).touch()
    return folder


def delivered(tables: Iterator[object]) -> list[tuple[int, str, str]]:
    rows: list[tuple[int, str, str]] = []
    for table in tables:
        assert table.num_rows == BATCH
        columns = (table[name].to_pylist() for name in ("sample", "key", "text.number"))
        rows += zip(*columns, strict=True)
    return rows


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("fate", "times", "samples", "batches"),
    [("dies", 5, 8000, 1), ("dies", 20, SAMPLES, 4), ("hangs", 2, 4000, 1)],
)
def test_readers_that_are_lost_change_nothing(tmp_path, fate, times, samples, batches):
    import ray

    source = reader(with_tokens(tmp_path, times), fate, samples)
    share = Share(BATCH, 0, 1, 0, samples // BATCH)
    spread = {"batches_per_task": batches, "samples_per_task": 1, "tasks_ahead": 2}
    config = ReaderConfig(**spread, patience=3.0, outage=0.0)
    found = delivered(stream(ray.put(source), share, config))
    assert not list(tmp_path.iterdir())  # every token cost a reader its life
    assert found == delivered(stream_here(source, share, config))
    assert sorted(sample for sample, _, _ in found) == list(range(samples))
    assert all(key == f"{sample:06d}" and int(text) == sample for sample, key, text in found)
