"""Indexing on a cluster: one Ray task a shard."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa
import ray

from pipelines.shards.index import Shard, scan_shard


def scan_on_cluster(urls: Sequence[str]) -> Iterable[tuple[Shard, pa.Table]]:
    """Scan shards in parallel by Ray tasks, in the order asked."""
    task = ray.remote(num_cpus=1, max_retries=3)(scan_shard)
    scanned: list[tuple[Shard, pa.Table]] = ray.get([task.remote(url) for url in urls])
    return scanned
