"""When the loop of Ray Data's executor looks again: once there is something to do, and not before.

Left to itself the loop waits until all read tasks have something, or a tenth of a second: so long a
task that has ended has no successor. And it spins once readers are as far ahead as they may be.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import ray
from ray.data._internal.execution import streaming_executor_state
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.metadata_fetcher import InlineMetadataFetcher

_PAUSE = 0.25  # seconds; a loop costs 2 to 5 ms, and a closed one ends after its pause
_BLINK = 0.02  # seconds; short against the time that one waiting block lasts
_OWN_WAIT = streaming_executor_state.WAIT_FOR_TASK_COMPLETION_TIMEOUT_S
_executions = 0
_lock = threading.Lock()


class Patience(ExecutionCallback):  # type: ignore[misc]
    """Waits between two steps of an executor's loop."""

    def __init__(self) -> None:
        self._made = 0
        self._ready = False

    def before_execution_starts(self, executor: Any) -> None:
        """Take over all waiting."""
        # The thread that fetches metadata makes each block wait for two more steps.
        executor._metadata_fetcher = InlineMetadataFetcher()
        _set_own_wait(+1)

    def after_execution_succeeds(self, executor: Any) -> None:
        """Give it back."""
        _set_own_wait(-1)

    def after_execution_fails(self, executor: Any, error: Exception) -> None:
        """Give it back."""
        _set_own_wait(-1)

    def on_execution_step(self, executor: Any) -> None:
        """Sleep until a task has something, or where it may not be taken, until blocks are."""
        made, before = _made(executor), self._made
        self._made = made
        if self._ready and made == before:
            _await_consumer(executor)
            return
        tasks = [task for op in executor._topology for task in op.get_active_tasks()]
        self._ready = bool(tasks) and _await_any(tasks)
        if not tasks and made == before:
            _await_consumer(executor)


def _set_own_wait(change: int) -> None:
    """Ray Data has one wait for a whole process: none while any execution waits here."""
    global _executions
    with _lock:
        _executions += change
        wait = 0.0 if _executions else _OWN_WAIT
        streaming_executor_state.WAIT_FOR_TASK_COMPLETION_TIMEOUT_S = wait


def _made(executor: Any) -> int:
    """Counts whatever a step can get done."""
    metrics = [op.metrics for op in executor._topology]
    return sum(
        m.num_tasks_submitted + m.num_task_outputs_generated + m.num_tasks_finished for m in metrics
    )


def _await_any(tasks: list[Any]) -> bool:
    waitables = [task.get_waitable() for task in tasks]
    ready, _ = ray.wait(waitables, num_returns=1, timeout=_PAUSE, fetch_local=False)
    return bool(ready)


def _await_consumer(executor: Any) -> None:
    slept = 0.0
    while slept == 0.0 or (slept < _PAUSE and not executor._consumer_idling()):
        time.sleep(_BLINK)
        slept += _BLINK
