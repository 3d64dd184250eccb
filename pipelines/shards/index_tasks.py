"""Indexing on a cluster: one Ray task a shard."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import ray

from pipelines.shards.index import Listed, Scanned, scan_into

_AHEAD = 256  # tasks submitted at once: a hundred thousand would only wait


def scan_on_cluster(listed: Sequence[Listed], folder: str) -> Iterator[Scanned]:
    """Scan shards in parallel by Ray tasks, as they end.

    With a folder each task writes its own entries there: they never pass through the driver.
    """
    task = ray.remote(num_cpus=1, max_retries=3)(scan_into)
    waiting = iter(listed)
    running = [task.remote(*each, folder) for each in itertools.islice(waiting, _AHEAD)]
    while running:
        ended, running = ray.wait(running)
        yield from ray.get(ended)
        running += [task.remote(*each, folder) for each in itertools.islice(waiting, len(ended))]
