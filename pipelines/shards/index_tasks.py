"""Indexing on a cluster: one Ray task a shard."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import ray
from ray.exceptions import RayTaskError

from pipelines.shards.index import Listed, Scanned, scan_into

_AHEAD = 256  # tasks submitted at once: a hundred thousand would only wait


def scan_on_cluster(listed: Sequence[Listed], folder: str) -> Iterator[Scanned]:
    """Scan shards in parallel by Ray tasks, as they end.

    With a folder each task writes its own entries there: they never pass through the driver.

    Raises:
        StorageError: A shard cannot be read.
    """
    task = ray.remote(num_cpus=1, max_retries=3)(scan_into)
    waiting = iter(listed)
    running = [task.remote(*each, folder) for each in itertools.islice(waiting, _AHEAD)]
    while running:
        ended, running = ray.wait(running)
        yield from _results(ended)
        running += [task.remote(*each, folder) for each in itertools.islice(waiting, len(ended))]


def _results(ended: list[ray.ObjectRef]) -> list[Scanned]:
    try:
        found: list[Scanned] = ray.get(ended)
    except RayTaskError as error:  # its text is the task's whole stack
        raise error.cause from None
    return found
