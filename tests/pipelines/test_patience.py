from __future__ import annotations

from types import SimpleNamespace

import pytest
from ray.data import DataContext
from ray.data._internal.execution import streaming_executor, streaming_executor_state
from ray.data._internal.execution.metadata_fetcher import InlineMetadataFetcher

from pipelines import patience
from pipelines.patience import Patience


class Executor:
    """One operator with some running tasks, and a consumer that takes a block at a time."""

    def __init__(self, tasks: int, idle_after: int = 0):
        self.metrics = SimpleNamespace(
            num_tasks_submitted=tasks, num_task_outputs_generated=0, num_tasks_finished=0
        )
        running = [SimpleNamespace(get_waitable=lambda number=n: number) for n in range(tasks)]
        self._topology = [SimpleNamespace(metrics=self.metrics, get_active_tasks=lambda: running)]
        self._idle_after = idle_after

    def _consumer_idling(self) -> bool:
        self._idle_after -= 1
        return self._idle_after < 0


@pytest.fixture
def log(monkeypatch):
    """What was waited for: the number of tasks, or ``sleep``; the first task is always ready."""
    told: list[object] = []

    def wait(waitables, *, num_returns, timeout, fetch_local):
        assert (num_returns, fetch_local) == (1, False)
        told.append(len(waitables))
        return waitables[:1], waitables[1:]

    monkeypatch.setattr(patience.ray, "wait", wait)
    monkeypatch.setattr(patience.time, "sleep", lambda _: told.append("sleep"))
    return told


def test_a_step_that_got_something_done_is_followed_as_soon_as_any_task_has_more(log):
    executor, callback = Executor(tasks=3), Patience()
    for _ in range(4):
        executor.metrics.num_task_outputs_generated += 1
        callback.on_execution_step(executor)
    assert log == [3, 3, 3, 3]


def test_a_task_that_ends_counts_as_something_done(log):
    executor, callback = Executor(tasks=2), Patience()
    callback.on_execution_step(executor)
    executor.metrics.num_tasks_finished += 1
    callback.on_execution_step(executor)
    assert log == [2, 2]


def test_what_is_ready_and_not_taken_waits_for_the_consumer(log):
    executor, callback = Executor(tasks=2, idle_after=3), Patience()
    callback.on_execution_step(executor)
    callback.on_execution_step(executor)
    assert log == [2, "sleep", "sleep", "sleep", "sleep"]


def test_a_consumer_that_takes_nothing_does_not_keep_the_loop_for_ever(log):
    executor, callback = Executor(tasks=1, idle_after=1000), Patience()
    callback.on_execution_step(executor)
    callback.on_execution_step(executor)
    assert 1 < log.count("sleep") < 100


def test_a_task_that_has_nothing_yet_is_waited_for_again(log, monkeypatch):
    executor, callback = Executor(tasks=1), Patience()

    def wait(waitables, **_):
        log.append("nothing")
        return [], waitables

    monkeypatch.setattr(patience.ray, "wait", wait)
    for _ in range(3):
        callback.on_execution_step(executor)
    assert log == ["nothing"] * 3


def test_without_a_task_the_loop_does_not_spin(log):
    executor, callback = Executor(tasks=0), Patience()
    for _ in range(3):
        callback.on_execution_step(executor)
    assert log == ["sleep"] * 3


def test_the_executor_itself_waits_for_nothing():
    """Names of Ray Data's own: another version that has others must not pass unnoticed."""
    name = "WAIT_FOR_TASK_COMPLETION_TIMEOUT_S"
    used = streaming_executor_state.process_completed_tasks
    assert name in used.__code__.co_names
    assert streaming_executor.process_completed_tasks is used
    usual = getattr(streaming_executor_state, name)
    assert usual > 0
    executor, (one, other) = SimpleNamespace(), (Patience(), Patience())
    one.before_execution_starts(executor)
    other.before_execution_starts(executor)
    one.after_execution_succeeds(executor)
    assert getattr(streaming_executor_state, name) == 0
    other.after_execution_fails(executor, ValueError())
    assert getattr(streaming_executor_state, name) == usual


def test_metadata_are_fetched_at_once():
    executor = streaming_executor.StreamingExecutor(DataContext(), dataset_id="d")
    assert hasattr(executor, "_metadata_fetcher")
    callback = Patience()
    callback.before_execution_starts(executor)
    callback.after_execution_succeeds(executor)
    assert isinstance(executor._metadata_fetcher, InlineMetadataFetcher)
