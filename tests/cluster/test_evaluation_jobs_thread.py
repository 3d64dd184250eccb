"""The thread that follows a run's requests: how it ends."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.cluster.test_evaluation_jobs import setting


def test_the_thread_follows_until_all_is_done(tmp_path: Path) -> None:
    manager, jobs = setting(tmp_path)
    jobs.fate = "succeeded"
    manager.start()
    assert manager.finish(timeout=20.0)
    assert len(jobs.started) == 1


def test_a_run_that_failed_leaves_no_thread_and_stops_no_job(tmp_path: Path) -> None:
    manager, jobs = setting(tmp_path)
    manager.start()
    while not jobs.started:
        time.sleep(0.01)
    manager.leave()
    assert "evaluations" not in {thread.name for thread in threading.enumerate()}
    assert jobs.stopped == []


def test_who_leaves_does_not_wait_for_a_job_server_that_never_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.evaluation_jobs._LEAVING", 0.05)
    manager, jobs = setting(tmp_path)
    asked, answered = threading.Event(), threading.Event()

    def silent(name: str, command: str) -> None:
        asked.set()
        assert answered.wait(60.0)

    jobs.start = silent  # type: ignore[method-assign]
    manager.start()
    assert asked.wait(20.0)
    manager.leave()
    assert not answered.is_set()
    answered.set()
    assert manager.finish(timeout=20.0)
