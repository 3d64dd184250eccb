"""What a very large data set costs to open, to start anywhere in, and to plan batches of.

The index is generated, and no sample of it exists: planning looks at none.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.order import Shuffle, ShuffledOrder
from pipelines.reader import Share
from pipelines.shards import storage
from pipelines.shards.index import Index
from pipelines.shards.index_table import SCHEMA, read_index

_BATCHES = 2000
_PLACES = (0.01, 0.37, 0.99)  # of an epoch


def simulate(samples: int, shards: int, workers: int, batch: int) -> dict[str, Any]:
    """Measure in a process of its own, so that its memory is all that counts.

    Args:
        samples: Of the data set.
        shards: Tars that hold them.
        workers: Of which one is measured.
        batch: Global batch; a multiple of ``workers``.

    Returns:
        Seconds to open and to seek, microseconds a batch, and MB at the peak.
    """
    with tempfile.TemporaryDirectory(prefix="eagleray-scale-") as folder:
        place = str(Path(folder) / "index.parquet")
        storage.write_atomic(place, Index(_generated(samples, shards)).to_bytes())
        numbers = [str(shards), str(workers), str(batch)]
        command = [sys.executable, "-m", "cluster.bench.scale", place, *numbers]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    measured: dict[str, Any] = json.loads(done.stdout)
    return {"samples": samples, "shards": shards, "workers": workers, "batch": batch, **measured}


def _generated(samples: int, shards: int) -> pa.Table:
    counts = np.full(shards, samples // shards, dtype=np.int64)
    counts[: samples % shards] += 1
    columns = {
        "url": [f"s3://bucket/data/train-{number:06d}.tar" for number in range(shards)],
        "stamp": [f"{number}:{number:032x}" for number in range(shards)],
        "size": counts * 46_000,
        "sha256": [f"{number:064x}" for number in range(shards)],
        "samples": counts,
        "skipped": np.zeros(shards, np.int64),
        "fault": [""] * shards,
        "entries": [f"s3://bucket/data/_eagleray/{n:032x}.parquet" for n in range(shards)],
    }
    return pa.table(columns).cast(SCHEMA)


def measure(place: str, shards: int, workers: int, batch: int) -> dict[str, Any]:
    """Open an index, seek in it and plan batches of the last worker."""
    before = _peak()
    began = time.perf_counter()
    index = Index(read_index(place, shards))
    order = ShuffledOrder(len(index), 0, Shuffle())
    opened = time.perf_counter() - began
    share = Share(batch, workers - 1, workers, 0, 0)
    steps = order.size // batch
    seeks = {f"at {part:.0%}": _seek(len(index), share, int(part * steps)) for part in _PLACES}
    first = steps // 2
    plans = []
    for number in range(first, first + _BATCHES):
        began = time.perf_counter()
        index.locate(order.at(*share.positions(number))[1])
        plans.append(time.perf_counter() - began)
    return {
        "open_seconds": opened,
        "seek_seconds": seeks,
        "plan_microseconds": {
            "mean": 1e6 * statistics.mean(plans),
            "median": 1e6 * statistics.median(plans),
        },
        "peak_megabytes": _peak(),
        "of_which_libraries": before,
    }


def _peak() -> float:
    """MB that this process has held at most; getrusage would count the one it came from."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _seek(size: int, share: Share, step: int) -> float:
    """Median seconds until a fresh order knows the samples of a batch."""
    times = []
    for _ in range(20):
        began = time.perf_counter()
        ShuffledOrder(size, 0, Shuffle()).at(*share.positions(step))
        times.append(time.perf_counter() - began)
    return statistics.median(times)


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], *map(int, sys.argv[2:]))))
