"""What is noted, kept and raised when an attempt ends early; the deciding is in test_recovery."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.train.v2.api.exceptions import PreemptionError
from ray.train.v2.api.preemption import PreemptionInfo

from cluster import attempts
from cluster.attempts import train_to_the_end
from cluster.growth import LOOK
from cluster.profile import Profile
from cluster.skipped import read_skipped
from pipelines.core import StorageError, UserError
from tests.trainers.conftest import small_recipe
from trainers.job import Job
from trainers.meter import NotFinite

BATCH, STEPS = 32, 4
RECIPE = small_recipe(global_batch=BATCH, samples=STEPS * BATCH, rewinds=1)
PROFILE = Profile(workers=2, restarts=2)
MOVED = PreemptionError(PreemptionInfo(deadline_ms=None, preempted_node_to_ranks={"n": [1]}))

Attempt = tuple[int, BaseException | None]
"""Steps that are committed when the attempt ends, and what it raises."""


class Notes:
    """Stands in for ``Facts``."""

    def __init__(self) -> None:
        self.events: list[tuple[int, str]] = []

    def event(self, samples: int, text: str) -> None:
        self.events.append((samples, text))


Play = Callable[..., tuple[Notes, list[dict[str, Any]], BaseException | None]]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Run attempts that end as told, without a cluster."""

    def run(
        *script: Attempt,
        workers: int | Sequence[int] = 2,
        grows: bool = False,
        looks: list[float] | None = None,
        profile: Profile = PROFILE,
    ) -> tuple[Notes, list[dict[str, Any]], BaseException | None]:
        left, committed, jobs, notes = list(script), [0], [], Notes()
        counts = iter([workers] * 100 if isinstance(workers, int) else workers)
        looks = [] if looks is None else looks

        def fit(config: dict[str, Any], profile: Profile, count: int) -> None:
            jobs.append(config["job"] | {"workers": count})
            steps, error = left.pop(0)
            committed[0] = steps * BATCH
            if error is not None:
                raise error

        class Growing(nullcontext[None]):
            def __init__(self, *_: object, every: float) -> None:
                super().__init__()
                self.asked = grows
                looks.append(every)

        @contextmanager
        def nothing(*_: object) -> Iterator[None]:
            yield

        monkeypatch.setattr(attempts, "train_group", fit)
        monkeypatch.setattr(attempts, "Growth", Growing)
        monkeypatch.setattr(attempts, "demand", nothing)
        monkeypatch.setattr(attempts, "wait_for_workers", lambda *_: next(counts))
        monkeypatch.setattr(attempts, "newest", lambda _: committed[0])
        monkeypatch.setattr(ray, "put", lambda thing: thing)
        raised = None
        try:
            train_to_the_end(str(tmp_path), RECIPE, profile, "reader", notes, print)  # type: ignore[arg-type]
        except Exception as error:
            raised = error
        assert raised is not None or not left
        return notes, jobs, raised

    return run


def test_an_undisturbed_run_is_one_attempt_with_nothing_to_tell(play: Play) -> None:
    notes, jobs, raised = play((STEPS, None))
    assert (len(jobs), notes.events, raised) == (1, [], None)
    assert jobs[0]["leave"] == ""


def test_workers_are_told_all_that_the_profile_says_of_their_work(
    play: Play, tmp_path: Path
) -> None:
    profile = Profile.model_validate(
        {
            "workers": 2,
            "engine": {"zero_stage": 2, "accumulate": 2},
            "reader": {"batches_per_task": 3, "threads": 2},
            "augment": "readers",
            "patience": 60.0,
            "keep": {"last": 2},
            "ledger": True,
            "trackers": [{"kind": "tensorboard", "interval": 5.0}],
        }
    )
    _, (told,), _ = play((STEPS, None), profile=profile)
    job = Job.model_validate({name: value for name, value in told.items() if name != "workers"})
    assert (job.run, job.folder, job.recipe) == (str(tmp_path), str(Path.cwd()), RECIPE)
    for name in set(Job.model_fields) & set(Profile.model_fields):
        asked = getattr(profile, name)
        assert asked != Profile.model_fields[name].default, name  # or it would show nothing
        assert getattr(job, name) == asked, name


def test_a_worker_that_dies_is_replaced_from_the_last_commit(play: Play) -> None:
    notes, jobs, raised = play((2, RuntimeError("trace\nout of memory\n")), (STEPS, None))
    assert raised is None
    assert len(jobs) == 2
    assert notes.events == [
        (2 * BATCH, "a training worker failed: out of memory"),
        (2 * BATCH, f"went on from the commit at {2 * BATCH} samples"),
    ]


def test_only_failures_without_a_commit_between_them_use_up_restarts(play: Play) -> None:
    died = RuntimeError("died")
    *_, raised = play((0, died), (0, died), (1, died), (1, died), (1, died), (STEPS, None))
    assert raised is None
    _, jobs, raised = play((1, died), (1, died), (1, died), (1, died), (STEPS, None))
    assert raised is died
    assert len(jobs) == 4  # the first made a commit; then the two that the profile allows, and one


@pytest.mark.parametrize("ended", [None, MOVED, NotFinite("the loss is not finite", 3)])
def test_a_commit_gives_restarts_back_however_its_attempt_ended(
    play: Play, ended: BaseException | None
) -> None:
    died = RuntimeError("died")
    _, jobs, raised = play((0, died), (0, died), (2, ended), (2, died), (2, died), (STEPS, None))
    assert raised is None
    assert len(jobs) == 6


def test_workers_whose_commits_are_not_here_are_not_started_again(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "_SHOWN", 0.0)
    _, jobs, raised = play((0, None), (0, None))
    assert isinstance(raised, UserError)
    assert "one place that every node reaches" in str(raised)
    assert len(jobs) == 1


def test_an_attempt_that_ended_in_order_without_a_commit_gives_none_back(play: Play) -> None:
    died = RuntimeError("died")
    _, jobs, raised = play((0, died), (0, died), (0, MOVED), (0, died), (STEPS, None))
    assert raised is died
    assert len(jobs) == 4


def test_evaluations_that_no_worker_asked_for_are_asked_for_before_workers_go_on(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        attempts, "ask_for_what_is_missing", lambda run, _: asked.append(attempts.newest(run))
    )
    play((2, RuntimeError("died")), (STEPS, None))
    assert asked == [0, 2 * BATCH]


def test_a_node_that_goes_uses_up_no_restart(play: Play) -> None:
    notes, jobs, raised = play(*[(1, MOVED)] * 5, (STEPS, None))
    assert raised is None
    assert len(jobs) == 6
    assert sum("a node was taken away" in text for _, text in notes.events) == 5


def test_a_batch_whose_loss_is_not_finite_is_left_out_once(play: Play, tmp_path: Path) -> None:
    broken = NotFinite("the loss is not finite", 3)
    notes, jobs, raised = play((2, broken), (STEPS, None))
    assert raised is None
    assert [job["skipped"] for job in jobs] == [[], [3]]
    (window,) = read_skipped(str(tmp_path)).windows
    assert (window.start, window.stop) == (2 * BATCH, 3 * BATCH)
    assert notes.events[0] == (
        2 * BATCH,
        "the batch of step 3 is left out: its loss was not finite",
    )


def test_another_one_than_the_recipe_allows_is_told(play: Play, tmp_path: Path) -> None:
    first, second = NotFinite("step 3", 3), NotFinite("step 4", 4)
    _, jobs, raised = play((2, first), (3, second), (STEPS, None))
    assert raised is second
    assert len(jobs) == 2
    assert read_skipped(str(tmp_path)).steps == (3,)


def test_a_users_fault_is_told_at_once_and_noted(play: Play) -> None:
    full = StorageError("x: the disk is full")
    notes, jobs, raised = play((1, full), (STEPS, None))
    assert raised is full
    assert len(jobs) == 1
    assert notes.events == [(BATCH, "x: the disk is full")]


def test_fewer_workers_are_told_of_and_look_for_a_call_to_leave(play: Play, tmp_path: Path) -> None:
    notes, jobs, raised = play((STEPS, None), workers=1)
    assert raised is None
    assert notes.events == [(0, "went on from the commit at 0 samples with 1 of 2 workers")]
    assert jobs[0]["workers"] == 1
    assert jobs[0]["leave"] == f"{tmp_path}/leave.json"


def test_a_run_that_left_for_room_that_was_not_there_looks_less_often(play: Play) -> None:
    looks: list[float] = []
    script = [(1, None), (2, None), (3, None), (STEPS, None)]
    _, jobs, raised = play(*script, workers=(1, 1, 1, 2), grows=True, looks=looks)
    assert raised is None
    assert [job["workers"] for job in jobs] == [1, 1, 1, 2]
    assert looks == [LOOK, 4 * LOOK, 16 * LOOK, LOOK]
