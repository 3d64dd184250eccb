"""Order and delivery over real tars: across resumes, worker counts and faults of storage."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from fsspec.implementations.memory import MemoryFileSystem

from pipelines.reader import DataConfig, Reader, Share, open_source
from pipelines.reader_config import ReaderConfig
from pipelines.shards import storage_faults, storage_places
from pipelines.sources.webdataset import merge
from pipelines.stream import stream_here

BATCH = 64


def reader_of(url: str, chunk: int = 16, window: int = 8) -> Reader:
    data = DataConfig.model_validate(
        {
            "source": {"kind": "webdataset", "url": url},
            "decode": {"size": None, "text": {"number": "txt"}},
            "shuffle": {"chunk": chunk, "window": window},
        }
    )
    return Reader(open_source(data.source), data, seed=11)


def write(make_tar: Callable[..., Path], folder: Path, samples: int, shards: int) -> str:
    """Tars of unequal sizes."""
    cuts = sorted(random.Random(0).sample(range(1, samples), shards - 1))
    for shard, (start, stop) in enumerate(zip([0, *cuts], [*cuts, samples], strict=True)):
        numbers = range(start, stop)
        make_tar(folder / f"s-{shard:03d}.tar", {f"{n:06d}": {"txt": b"%d" % n} for n in numbers})
    return f"{folder}/s-*.tar"


def global_batches(reader: Reader, workers: int, start: int, stop: int) -> list[list[str]]:
    shares = [Share(BATCH, rank, workers, start, stop) for rank in range(workers)]
    config = ReaderConfig(batches_per_task=4, samples_per_task=1)
    tables = zip(*(stream_here(reader, share, config) for share in shares), strict=True)
    return [pa.concat_tables(parts)["key"].to_pylist() for parts in tables]


def keys_of(batches: list[list[str]]) -> list[str]:
    return [key for batch in batches for key in batch]


def test_stopped_at_fifty_places_any_workers_see_the_same_rest(tmp_path, make_tar):
    url = write(make_tar, tmp_path, 3000, 7)
    steps = 100  # two epochs and more
    whole = global_batches(reader_of(url), 1, 0, steps)
    assert sorted(keys_of(whole)[:3000]) == [f"{n:06d}" for n in range(3000)]
    chance = random.Random(1)
    for place in chance.sample(range(steps), 50):
        workers = chance.choice((1, 2, 4))
        rest = global_batches(reader_of(url), workers, place, min(place + 5, steps))
        expected = whole[place : place + 5]
        assert rest == expected
        assert [set(batch) for batch in rest] == [set(batch) for batch in expected]


class Faulty(MemoryFileSystem):
    """Fails or cuts short what is read, with a set probability; counts what it did."""

    chance = random.Random(2)
    share = 0.0
    injected = 0

    def cat_ranges(self, paths, starts, ends, *given: Any, **options: Any) -> list[Any]:
        parts: list[Any] = super().cat_ranges(paths, starts, ends, *given, **options)
        for number, part in enumerate(parts):
            if self.chance.random() < self.share:
                type(self).injected += 1
                parts[number] = self.chance.choice(
                    (ConnectionResetError(), TimeoutError(), part[: len(part) // 2])
                )
        return parts


def test_a_thousand_faults_of_storage_change_nothing(tmp_path, make_tar, memory, monkeypatch):
    url = write(make_tar, tmp_path, 20_000, 20)
    expected = keys_of(global_batches(reader_of(url), 1, 0, 20_000 // BATCH))
    store = Faulty()
    monkeypatch.setattr(storage_places, "_filesystem", lambda protocol: store)
    monkeypatch.setattr(storage_faults, "RETRIES", 40)  # far more faults than any real store has
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(merge, "__defaults__", (0,))  # as many requests as there are chunks
    for file in tmp_path.glob("*.tar"):
        store.pipe_file(f"/bucket/{file.name}", file.read_bytes())
    reader = reader_of(f"{memory}/s-*.tar")
    monkeypatch.setattr(Faulty, "share", 0.5)
    found = keys_of(global_batches(reader, 2, 0, 20_000 // BATCH))
    assert Faulty.injected >= 1000
    assert found == expected
    assert len(set(found)) == 20_000 // BATCH * BATCH
