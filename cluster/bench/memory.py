"""Memory of streaming an epoch, of all processes together, for two sizes of a data set."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from pipelines.decode import Decoder
from pipelines.reader import DataConfig, Reader, Share, open_source
from pipelines.reader_config import ReaderConfig
from pipelines.stream import stream
from pipelines.tables import array

_EVERY = 0.1  # seconds between looks


def family_of(process: int) -> set[int]:
    """A process and all that descend from it."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                status = (folder / "stat").read_text(encoding="ascii", errors="replace")
            except OSError:
                continue  # it has just ended
            parents[int(folder.name)] = int(status.rpartition(")")[2].split()[1])
    found = {process}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def held(processes: set[int]) -> int:
    """Bytes that processes hold, what they share counted once (their proportional set sizes)."""
    total = 0
    for process in processes:
        try:
            text = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
        except OSError:
            continue  # it has just ended
        total += 1024 * int(text.split("\nPss:")[1].split()[0])
    return total


@contextmanager
def watching() -> Iterator[list[int]]:
    """Look at this process and its descendants again and again; the list fills with bytes."""
    over, seen = threading.Event(), list[int]()

    def look() -> None:
        while True:  # once at least, however soon it is over
            seen.append(held(family_of(os.getpid())))
            if over.wait(_EVERY):
                return

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def epoch(url: str, size: int, batch: int, config: ReaderConfig) -> dict[str, float]:
    """Stream one epoch to a consumer that keeps nothing.

    Returns:
        Its samples, seconds, and the megabytes held at the peak and in the median.
    """
    source = {"kind": "webdataset", "url": url}
    data = DataConfig.model_validate({"source": source, "decode": {"size": size}})
    reader = Reader(open_source(data.source), data, 0)
    shapes = Decoder(data.decode).shapes
    share = Share(batch, 0, 1, 0, reader.order.size // batch)
    began = time.perf_counter()
    with watching() as seen:
        for table in stream(ray.put(reader), share, config):
            array(table, "image", shapes)
    return {
        "samples": share.stop * batch,
        "seconds": time.perf_counter() - began,
        "peak_megabytes": max(seen) / 1e6,
        "median_megabytes": sorted(seen)[len(seen) // 2] / 1e6,
    }
