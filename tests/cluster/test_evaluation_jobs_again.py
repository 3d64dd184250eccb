"""What is evaluated again: what failed before its run was started anew, and commits made anew."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.test_evaluation_jobs import ask, file, setting
from trainers.requests import Inbox, filed


def commit_of(run: Path, samples: int = 64) -> None:
    commit = run / "checkpoints" / f"{samples:012}"
    commit.mkdir(parents=True)
    (commit / "manifest.json").write_text("{}")


def test_what_failed_is_tried_once_more_when_the_run_is_started_again(tmp_path: Path) -> None:
    commit_of(tmp_path)
    manager, jobs = setting(tmp_path)
    file(tmp_path, status="failed")
    manager.step(0.0)
    assert len(jobs.started) == 1
    assert filed(str(tmp_path), 64) == []
    jobs.fate = "failed"
    manager.step(1.0)
    manager.step(2.0)
    assert len(jobs.started) == 1
    assert filed(str(tmp_path), 64)[0].status == "failed"
    assert manager.open == 0


def test_what_failed_before_waits_for_what_is_new(tmp_path: Path) -> None:
    commit_of(tmp_path)
    manager, jobs = setting(tmp_path)
    file(tmp_path, status="failed")
    ask(tmp_path, 128, "e")
    manager.step(0.0)
    (first,) = jobs.started
    assert first.startswith("eagleray-evaluate-e-")


def test_what_a_job_that_is_still_at_work_has_failed_in_stays_on_record(tmp_path: Path) -> None:
    commit_of(tmp_path)
    manager, jobs = setting(tmp_path)
    (request,) = Inbox(str(tmp_path)).look()
    jobs.of_earlier_starts = [f"{manager._beginning(request)}before-1"]
    file(tmp_path, status="failed")
    manager.step(0.0)
    assert filed(str(tmp_path), 64)[0].status == "failed"


def test_what_failed_stays_on_record_where_its_commit_is_gone(tmp_path: Path) -> None:
    manager, jobs = setting(tmp_path)
    file(tmp_path, status="failed")
    manager.step(0.0)
    assert jobs.started == []
    assert filed(str(tmp_path), 64)[0].status == "failed"


def test_a_commit_made_anew_is_evaluated_anew(tmp_path: Path) -> None:
    manager, jobs = setting(tmp_path, digest="old")
    file(tmp_path, digest="old")
    manager.step(0.0)
    ask(tmp_path, 64, digest="new")
    manager.step(1.0)
    assert len(jobs.started) == 1
