"""What a run was trained on, sample by sample: kept beside its commits, audited afterwards."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.core import StorageError
from pipelines.shards import storage
from trainers.core.collective import gather_objects, world

_SCHEMA = pa.schema([("sample", pa.int64()), ("key", pa.string()), ("fault", pa.string())])
_START = b"start"


class Delivered:
    """Takes down which samples the steps between two commits were made of.

    Args:
        done: Samples that an earlier attempt committed.
    """

    def __init__(self, done: int):
        self._start = done
        self._parts: list[pa.Table] = []

    def noted(self, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """Pass a worker's tables on, and take down their rows."""
        for table in tables:
            # A copy: columns of a block keep all of it, pixels too, in the object store.
            rows = np.arange(table.num_rows)
            self._parts.append(table.select(_SCHEMA.names).take(rows))
            yield table

    def write(self, run: str, samples: int) -> None:
        """Write what came since the last commit, before this one counts; every worker calls it.

        Args:
            run: URL of the run.
            samples: Of the commit.
        """
        everyone = gather_objects([part.to_pydict() for part in self._parts])
        if world()[0] == 0:
            # Step by step, the workers' parts in the order of ranks: the global order.
            rows = [
                pa.table(part, _SCHEMA) for step in zip(*everyone, strict=True) for part in step
            ]
            whole = pa.concat_tables([_SCHEMA.empty_table(), *rows])
            whole = whole.replace_schema_metadata({_START: str(self._start).encode()})
            sink = io.BytesIO()
            pq.write_table(whole, sink)
            storage.write_atomic(_url(run, samples), sink.getvalue())
        self._start, self._parts = samples, []


def delivered(run: str, samples: int) -> list[pa.Table]:
    """What the commit at ``samples`` was trained on, from the run's start on, in order.

    Only what leads to that commit: steps of an attempt that died before its commit were made again.

    Raises:
        StorageError: The run keeps no ledger, or a part of it is missing or damaged.
    """
    parts: list[pa.Table] = []
    while samples > 0:
        url = _url(run, samples)
        if not storage.exists(url):
            raise StorageError(f"{url}: missing; train with the profile's ledger: true")
        try:
            part = pq.read_table(io.BytesIO(storage.read_bytes(url)))
            start = int(part.schema.metadata[_START])
            part = part.cast(_SCHEMA)
        except (pa.ArrowException, KeyError, TypeError, ValueError):
            raise StorageError(f"{url}: damaged") from None
        if not 0 <= start < samples:
            raise StorageError(f"{url}: damaged")
        parts.append(part)
        samples = start
    return parts[::-1]


def _url(run: str, samples: int) -> str:
    return storage.join(run, "ledger", f"{samples:012d}.parquet")
