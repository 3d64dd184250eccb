from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Literal

import pytest

from cluster import evaluation_jobs
from cluster.evaluation_jobs import Action, EvaluationManager, Standing, Status, decide
from cluster.profile import EvaluationJobs
from pipelines.core import OutageError
from trainers.core.evaluation import EvaluationRequest, EvaluationResult
from trainers.requests import FileSink, Inbox, file_result, filed, request_url

LIMITS = EvaluationJobs(at_once=1, tries=2, timeout=100.0)


@pytest.mark.parametrize(
    ("standings", "actions"),
    [
        ([], []),
        ([Standing(64)], [Action("start", 64)]),
        ([Standing(128), Standing(64)], [Action("start", 64)]),
        ([Standing(64, "running", 1, 50.0), Standing(128)], []),
        ([Standing(64, "running", 1, -50.0)], [Action("stop", 64)]),
        ([Standing(64, "waiting", 1, -50.0), Standing(128)], []),
        ([Standing(64, "failed", 1)], [Action("start", 64)]),
        ([Standing(64, "failed", 2)], [Action("give up", 64)]),
        ([Standing(64, "failed", 2), Standing(128)], [Action("give up", 64), Action("start", 128)]),
        ([Standing(64, "succeeded", 1)], []),
    ],
)
def test_decisions(standings: list[Standing], actions: list[Action]) -> None:
    assert decide(standings, LIMITS, now=100.0) == actions


def test_no_more_than_allowed_run_at_once() -> None:
    limits = EvaluationJobs(at_once=3)
    started = decide([Standing(n) for n in range(10)], limits, now=0.0)
    assert [action.samples for action in started] == [0, 1, 2]


class FakeJobs:
    """Jobs whose fate is set by the test."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.stopped: list[str] = []
        self.fate: Status = "running"
        self.of_earlier_starts: list[str] = []

    def start(self, name: str, command: str) -> None:
        self.started.append(name)

    def running(self, beginning: str) -> str | None:
        return next((n for n in self.of_earlier_starts if n.startswith(beginning)), None)

    def status(self, name: str) -> Status:
        return self.fate

    def stop(self, name: str) -> None:
        self.stopped.append(name)

    def last_words(self, name: str) -> str:
        return "MemoryError"


def setting(run: Path, digest: str = "d") -> tuple[EvaluationManager, FakeJobs]:
    jobs = FakeJobs()
    ask(run, 64, digest)
    return EvaluationManager(str(run), LIMITS, jobs, "python", "tag"), jobs


def ask(run: Path, samples: int, digest: str) -> None:
    evaluation = {"kind": "zero_shot", "name": "a", "data": "x.tar"}
    FileSink(str(run)).submit(
        EvaluationRequest(
            run=str(run),
            folder="/",
            checkpoint="c",
            digest=digest,
            samples=samples,
            evaluations=(evaluation,),
        )
    )


def file(run: Path, digest: str = "d", status: Literal["ok", "failed"] = "ok") -> None:
    file_result(
        str(run),
        EvaluationResult(
            evaluation="zero_shot",
            dataset="a",
            samples=64,
            checkpoint="c",
            digest=digest,
            status=status,
            seconds=0.0,
            error="x" if status == "failed" else None,
        ),
    )


def test_a_request_becomes_one_job_and_is_done_when_it_ends_well(tmp_path: Path) -> None:
    manager, jobs = setting(tmp_path)
    manager.step(0.0)
    manager.step(1.0)
    assert len(jobs.started) == 1
    assert manager.open == 1
    jobs.fate = "succeeded"
    manager.step(2.0)
    assert manager.open == 0
    assert len(jobs.started) == 1


def test_a_job_that_an_earlier_start_left_running_is_followed(tmp_path: Path) -> None:
    manager, jobs = setting(tmp_path)
    manager.step(0.0)
    (left,) = jobs.started
    again = EvaluationManager(str(tmp_path), LIMITS, jobs, "python", "other")
    jobs.of_earlier_starts = ["eagleray-evaluate-d-of-another-run-1", left]
    again.step(0.0)
    assert jobs.started == [left, left]  # of one name: the second is the first
    jobs.fate = "failed"
    again.step(1.0)
    assert jobs.started[2].endswith("-other-2")
    jobs.fate = "running"
    ask(tmp_path, 128, "d")  # a commit made since
    again.step(2.0)
    assert len(jobs.started) == 3  # one at once


def test_a_failing_job_is_tried_again_and_then_reported(tmp_path: Path) -> None:
    manager, jobs = setting(tmp_path)
    jobs.fate = "failed"
    for now in range(6):
        manager.step(float(now))
    assert len(jobs.started) == LIMITS.tries
    assert len(set(jobs.started)) == LIMITS.tries  # a job's name is used once
    assert manager.open == 0
    (result,) = filed(str(tmp_path), 64)
    assert result.status == "failed"
    assert result.error == "gave up after 2 tries; MemoryError"


def test_a_hanging_job_is_stopped_and_reported(tmp_path: Path) -> None:
    manager, jobs = setting(tmp_path)
    for now in (0.0, 101.0, 102.0, 203.0, 204.0):
        manager.step(now)
    assert len(jobs.stopped) == LIMITS.tries
    assert manager.open == 0
    assert filed(str(tmp_path), 64)[0].status == "failed"


def test_a_job_that_waits_for_a_place_runs_once_there_is_one(tmp_path: Path) -> None:
    manager, jobs = setting(tmp_path)
    jobs.fate = "waiting"
    for now in range(0, 10_000, 50):
        manager.step(float(now))
    assert manager.faults == ["evaluations: no room on the cluster for a job of 0 CPUs, 0 GPUs"]
    jobs.fate = "running"
    for now in range(10_000, 10_090, 10):
        manager.step(float(now))
    assert (len(jobs.started), jobs.stopped) == (1, [])
    jobs.fate = "succeeded"
    manager.step(10_095.0)
    assert manager.open == 0
    assert filed(str(tmp_path), 64) == []


def test_a_job_that_never_had_a_place_was_no_try(tmp_path: Path) -> None:
    manager, jobs = setting(tmp_path)
    for start in range(5):
        jobs.fate = "waiting"
        manager.step(1000.0 * start)
        manager.step(1000.0 * start + 1)
        jobs.fate = "failed"  # as Ray's jobs do when they were not placed in 900 s
        manager.step(1000.0 * start + 901)
    assert len(set(jobs.started)) == len(jobs.started) == 6
    assert filed(str(tmp_path), 64) == []
    for later in range(6):  # a job that fails before it runs was tried
        manager.step(6000.0 + later)
    assert filed(str(tmp_path), 64)[0].status == "failed"


def test_at_the_end_of_a_run_jobs_without_a_place_are_given_up(tmp_path: Path) -> None:
    manager, jobs = setting(tmp_path)
    manager._finishing.set()
    for start in range(LIMITS.tries):
        jobs.fate = "waiting"
        manager.step(1000.0 * start)
        manager.step(1000.0 * start + 1)
        jobs.fate = "failed"
        manager.step(1000.0 * start + 901)
    manager.step(5000.0)
    assert manager.open == 0
    assert filed(str(tmp_path), 64)[0].status == "failed"


def test_a_job_whose_preparation_failed_was_tried(tmp_path: Path) -> None:
    manager, jobs = setting(tmp_path)
    for start in range(LIMITS.tries):  # Ray gives an environment 600 s
        jobs.fate = "waiting"
        manager.step(1000.0 * start)
        manager.step(1000.0 * start + 1)
        jobs.fate = "failed"
        manager.step(1000.0 * start + 605)
    manager.step(5000.0)
    assert filed(str(tmp_path), 64)[0].status == "failed"


def test_a_job_that_waits_where_the_server_went_away_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager, jobs = setting(tmp_path)
    jobs.fate = "waiting"
    manager.step(0.0)
    manager.step(1.0)

    def away(name: str) -> Status:
        raise ConnectionError("gone")

    monkeypatch.setattr(jobs, "status", away)
    manager.step(50.0)
    assert jobs.stopped == []
    manager.step(LIMITS.timeout + 1)
    assert jobs.stopped == jobs.started[:1]


def test_what_is_filed_already_is_not_run_again(tmp_path: Path) -> None:
    manager, jobs = setting(tmp_path)
    file(tmp_path)
    manager.step(0.0)
    assert jobs.started == []
    assert manager.open == 0


def test_jobs_have_the_threads_that_they_occupy_and_the_device_of_the_profile(
    tmp_path: Path,
) -> None:
    limits, jobs = LIMITS.model_copy(update={"cpus": 4.5}), FakeJobs()
    ask(tmp_path, 64, "d")
    manager = EvaluationManager(str(tmp_path), limits, jobs, "python", "tag", device="cuda")
    (request,) = Inbox(str(tmp_path)).look()
    assert " --device cuda --threads 4 " in manager._command(request)


def test_a_job_server_that_fails_is_noted_and_does_not_stop_the_thread(tmp_path: Path) -> None:
    manager, jobs = setting(tmp_path)

    def broken(name: str, command: str) -> None:
        jobs.start = FakeJobs.start.__get__(jobs)  # type: ignore[method-assign]
        raise RuntimeError("503")

    jobs.start = broken  # type: ignore[method-assign]
    jobs.fate = "succeeded"
    manager.start()
    assert manager.finish(timeout=20.0)
    assert manager.faults == ["evaluations: 503"]
    assert len(jobs.started) == 1


def test_a_start_that_was_refused_does_not_count_as_a_try(tmp_path: Path) -> None:
    manager, jobs = setting(tmp_path)
    real = jobs.start

    def refuse(name: str, command: str) -> None:
        raise RuntimeError("no agent yet")

    for now in range(5):
        jobs.start = refuse  # type: ignore[method-assign]
        with pytest.raises(RuntimeError):
            manager.step(float(now))
    jobs.start = real  # type: ignore[method-assign]
    manager.step(6.0)
    (name,) = jobs.started
    assert re.fullmatch("eagleray-evaluate-d-[0-9a-f]{6}-tag-1", name)
    assert manager.open == 1


def test_a_job_server_that_never_takes_a_job_is_given_up(tmp_path: Path) -> None:
    manager, jobs = setting(tmp_path)

    def refuse(name: str, command: str) -> None:
        raise RuntimeError("no agent")

    jobs.start = refuse  # type: ignore[method-assign]
    for now in range(1000):
        with contextlib.suppress(RuntimeError):
            manager.step(float(now))
        if not manager.open:
            break
    assert manager.open == 0
    assert filed(str(tmp_path), 64)[0].status == "failed"


@pytest.mark.parametrize("error", [ConnectionError("gone"), RuntimeError("503")])
def test_a_job_server_that_went_away_holds_up_nothing_for_ever(
    tmp_path: Path, error: Exception
) -> None:
    manager, jobs = setting(tmp_path)
    manager.step(0.0)

    def gone(*_: object) -> Status:
        raise error

    jobs.status = jobs.start = jobs.stop = gone  # type: ignore[method-assign, assignment]
    manager.step(1.0)
    assert manager.open == 1  # it may answer again before the job's time is up
    assert manager.faults == [f"evaluations: {error}"]
    for now in range(101, 1000):
        with contextlib.suppress(ConnectionError, RuntimeError):
            manager.step(float(now))
        if not manager.open:
            break
    assert filed(str(tmp_path), 64)[0].status == "failed"


def test_what_nobody_foresaw_ends_the_thread_and_is_told(tmp_path: Path) -> None:
    manager, _ = setting(tmp_path)

    def unforeseen(now: float) -> None:
        raise KeyError("nobody")

    manager.step = unforeseen  # type: ignore[method-assign]
    manager.start()
    assert manager.finish(timeout=20.0)
    assert manager.faults == ["evaluations: 'nobody'"]


def test_a_store_that_stays_away_holds_up_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation_jobs, "_AWAY", 1.5)
    manager, _ = setting(tmp_path)

    def away() -> None:
        raise OutageError("no answer within 30 s")

    monkeypatch.setattr(manager._inbox, "look", away)
    manager.start()
    assert manager.finish(timeout=20.0)
    assert manager.faults == ["evaluations: no answer within 30 s"]


def test_a_request_of_another_version_is_told_and_the_others_are_dealt_with(tmp_path: Path) -> None:
    manager, jobs = setting(tmp_path)
    ask(tmp_path, 128, "d")
    Path(request_url(str(tmp_path), 64)).write_text('{"of": "another version"}')
    jobs.fate = "succeeded"
    manager.start()
    assert manager.finish(timeout=20.0)
    (fault,) = manager.faults
    assert "000000000064.json: not a request of this version; delete it" in fault
    assert len(jobs.started) == 1


def test_a_store_that_is_away_at_the_end_leaves_no_evaluation_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager, jobs = setting(tmp_path)
    jobs.fate = "succeeded"
    look, away = manager._inbox.look, [OutageError("no answer within 30 s")]

    def once() -> list[EvaluationRequest]:
        if away:
            raise away.pop()
        return look()

    monkeypatch.setattr(manager._inbox, "look", once)
    manager.start()
    assert manager.finish(timeout=20.0)
    assert manager.faults == ["evaluations: no answer within 30 s"]
    assert len(jobs.started) == 1
