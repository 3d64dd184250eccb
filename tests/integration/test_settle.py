"""Workers that all stop for one fault, while one of them still writes the last commit."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from cluster.profile import load_profile
from cluster.session import Session
from cluster.skipped import read_skipped
from tests.integration.conftest import tar_recipe
from tests.integration.poison import poisoned
from tests.integration.test_run import train_here
from trainers.checkpoint import Staged, committed, latest
from trainers.job import Job

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_a_commit_that_is_being_written_outlives_a_loss_that_is_not_finite(
    ray_cluster: Session, tars: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray ends a group some seconds after its first worker; the one here writes for longer."""
    starts = tmp_path / "starts"

    work = poisoned(11, starts)

    def slow(config: dict[str, Any]) -> None:
        from trainers import hooks

        first, publish = not latest(Job.model_validate(config["job"]).run), hooks.publish

        def slowly(staged: Staged, rank: int) -> None:
            if rank == 0 and first:
                time.sleep(25)
            publish(staged, rank)

        hooks.publish = slowly
        work(config)

    monkeypatch.setattr("cluster.worker_group.work", slow)
    out = tmp_path / "run"
    train_here(tar_recipe(tars), load_profile("laptop", ("workers=2",)), out)
    assert starts.read_text().split() == ["0", "0", "10", "10"]  # the commit of 160 samples
    assert read_skipped(str(out)).steps == (11,)
    assert committed(str(out)) == [160, 320]
