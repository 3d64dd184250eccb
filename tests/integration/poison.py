"""A worker one of whose batches breaks the loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.core.batch import Batch
from trainers.checkpoint import latest
from trainers.job import Job


def poisoned(step: int, starts: Path) -> Callable[[dict[str, Any]], None]:
    """In place of ``trainers.worker.work``, whose batches have 16 samples.

    Args:
        step: Whose pictures are no numbers.
        starts: File that gets a line from each worker that starts: the step that it begins after.
    """

    def work(config: dict[str, Any]) -> None:
        from trainers import worker

        found = latest(Job.model_validate(config["job"]).run)
        at = [found.samples // 16 if found else 0]
        with starts.open("a") as file:
            file.write(f"{at[0]}\n")
        watch, builder = worker.watched, worker.ViewBuilder

        def counted(tables: Iterator[pa.Table], patience: int) -> Iterator[pa.Table]:
            for table in watch(tables, patience):
                at[0] += 1
                yield table

        class Poisoned(builder):
            def __call__(self, table: pa.Table) -> Batch:
                batch = super().__call__(table)
                if at[0] == step:
                    batch.views["image"].fill_(math.nan)
                return batch

        worker.watched, worker.ViewBuilder = counted, Poisoned
        worker.work(config)

    return work
