"""When the loop of Ray Data's executor looks again: once there is something to do, and not before.

Left to itself the loop waits until all read tasks have something, or a tenth of a second: so long a
task that has ended has no successor. And it spins once readers are as far ahead as they may be.
"""

from __future__ import annotations

import time
from typing import Any

import ray
from ray.data import DataContext
from ray.data._internal.execution import streaming_executor_state
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.metadata_fetcher import InlineMetadataFetcher

_PAUSE = 0.25  # seconds; a loop costs 2 to 5 ms, and a closed one ends after its pause
_BLINK = 0.02  # seconds; short against the time that one waiting block lasts


class Patience(ExecutionCallback):  # type: ignore[misc]
    """Waits between two steps of an executor's loop."""

    def __init__(self) -> None:
        self._made = 0
        self._ready = False

    def before_execution_starts(self, executor: Any) -> None:
        """Take over all waiting."""
        # The thread that fetches metadata makes each block wait for two more steps.
        executor._metadata_fetcher = InlineMetadataFetcher()

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


def keep_patience(context: DataContext) -> None:
    """Have the executions of a context, the process's own, wait by ``Patience``."""
    if Patience not in context.custom_execution_callback_classes:
        context.custom_execution_callback_classes.append(Patience)
        streaming_executor_state.WAIT_FOR_TASK_COMPLETION_TIMEOUT_S = 0.0


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
