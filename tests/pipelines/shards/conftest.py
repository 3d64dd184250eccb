"""What the shards' tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.shards.index import Listed, Scanned, scan_here
from tests.pipelines.shards.web import Web

POOLS: list[pa.MemoryPool] = []  # what was allocated from one may outlive its test


class Counting:
    """A scan that remembers which shards it was asked for."""

    def __init__(self) -> None:
        self.urls: list[str] = []

    def __call__(self, listed: Sequence[Listed], folder: str) -> list[Scanned]:
        self.urls += [url.rpartition("/")[2] for url, _ in listed]
        # In another order than asked: the caller may not rely on it.
        return list(scan_here(listed, folder))[::-1]

    def take(self) -> list[str]:
        taken, self.urls = sorted(self.urls), []
        return taken


@pytest.fixture
def scan() -> Counting:
    """A scan that counts: ``scan.take()`` tells the shards since the last time."""
    return Counting()


@pytest.fixture
def shards(tmp_path: Path, make_tar) -> Path:
    """Shards of 3, 1 and 4 samples with one text and one number each."""
    for number, count in enumerate([3, 1, 4]):
        samples = {
            f"{number}-{i}": {"txt": f"text {number} {i}".encode(), "cls": b"%d" % i}
            for i in range(count)
        }
        make_tar(tmp_path / "data" / f"train-{number}.tar", samples)
    return tmp_path / "data"


@pytest.fixture
def web() -> Iterator[Web]:
    """A web server that shows no folder."""
    with Web() as server:
        yield server


@pytest.fixture
def arrow() -> Iterator[Callable[[], Callable[[], int]]]:
    """Call it to begin to count; what it returns tells the most bytes that Arrow held since."""
    before = pa.default_memory_pool()

    def begin() -> Callable[[], int]:
        pool = pa.proxy_memory_pool(before)
        POOLS.append(pool)
        pa.set_memory_pool(pool)
        return pool.max_memory

    yield begin
    pa.set_memory_pool(before)
