"""Workers that all stop for one fault, while one of them still writes the last commit."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cluster.profile import load_profile
from cluster.session import Session
from cluster.skipped import read_skipped
from pipelines.core.batch import Batch
from tests.integration.conftest import tar_recipe
from tests.integration.test_run import train_here
from trainers.checkpoint import Staged, committed, latest
from trainers.job import Job

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_a_commit_that_is_being_written_outlives_a_loss_that_is_not_finite(
    ray_cluster: Session, tars: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray ends a group some seconds after its first worker; the one here writes for longer."""
    starts = tmp_path / "starts"

    def poisoned(config: dict[str, Any]) -> None:
        from trainers import hooks, worker

        found = latest(Job.model_validate(config["job"]).run)
        at, began = [found.samples // 16 if found else 0], not found
        with starts.open("a") as file:
            file.write(f"{at[0]}\n")
        watch, builder, publish = worker.watched, worker.ViewBuilder, hooks.publish

        def counted(tables: Iterator[pa.Table], patience: int) -> Iterator[pa.Table]:
            for table in watch(tables, patience):
                at[0] += 1
                yield table

        class Poisoned(builder):
            def __call__(self, table: pa.Table) -> Batch:
                batch = super().__call__(table)
                if at[0] == 11:
                    batch.views["image"].fill_(math.nan)
                return batch

        def slowly(staged: Staged, rank: int) -> None:
            if rank == 0 and began:
                time.sleep(25)
            publish(staged, rank)

        worker.watched, worker.ViewBuilder, hooks.publish = counted, Poisoned, slowly
        worker.work(config)

    monkeypatch.setattr("cluster.worker_group.work", poisoned)
    out = tmp_path / "run"
    train_here(tar_recipe(tars), load_profile("laptop", ("workers=2",)), out)
    assert starts.read_text().split() == ["0", "0", "10", "10"]  # the commit of 160 samples
    assert read_skipped(str(out)).steps == (11,)
    assert committed(str(out)) == [160, 320]
