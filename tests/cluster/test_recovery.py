from __future__ import annotations

import pytest
from ray.train.v2.api.exceptions import PreemptionError
from ray.train.v2.api.preemption import PreemptionInfo

from cluster.recovery import decide, user_error
from pipelines.core import DataError, StorageError
from trainers.meter import NotFinite


class GroupError(Exception):
    def __init__(self, failures: dict[int, BaseException]):
        super().__init__("group")
        self.worker_failures = failures


class Wrapped(Exception):
    def __init__(self, cause: BaseException):
        super().__init__("wrapped")
        self.cause = cause


BROKEN = NotFinite("the loss is not finite", 7)
FULL = StorageError("x: the disk is full")


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (FULL, FULL),
        (GroupError({0: RuntimeError("gloo"), 1: FULL}), FULL),
        (GroupError({0: Wrapped(FULL)}), FULL),
        (GroupError({0: RuntimeError("gloo")}), None),
        (RuntimeError("x"), None),
    ],
)
def test_a_users_fault_is_found_inside_a_group_error(
    error: BaseException, found: BaseException | None
) -> None:
    assert user_error(error) is found


def test_a_chained_fault_is_found() -> None:
    outer = RuntimeError("outer")
    outer.__cause__ = DataError("bad tar")
    assert isinstance(user_error(outer), DataError)


@pytest.mark.parametrize(
    ("error", "restarts", "allowed", "progressed", "decision"),
    [
        (FULL, 0, 3, True, "tell the user"),
        (RuntimeError("died"), 0, 3, False, "retry"),
        (RuntimeError("died"), 2, 3, False, "retry"),
        (RuntimeError("died"), 3, 3, False, "give up"),
        (RuntimeError("died"), 3, 3, True, "retry"),
        (RuntimeError("died"), 0, 0, False, "give up"),
    ],
)
def test_decisions(
    error: Exception, restarts: int, allowed: int, progressed: bool, decision: str
) -> None:
    assert decide(error, restarts, allowed, progressed) == decision


@pytest.mark.parametrize(
    ("rewinds", "decision"), [(2, "rewind"), (1, "rewind"), (0, "tell the user")]
)
@pytest.mark.parametrize("error", [BROKEN, GroupError({1: Wrapped(BROKEN)})])
def test_a_batch_is_left_out_as_often_as_allowed(
    error: Exception, rewinds: int, decision: str
) -> None:
    assert decide(error, 3, 3, False, rewinds) == decision


@pytest.mark.parametrize("restarts", [0, 3])
def test_a_node_that_was_announced_to_go_uses_up_no_restart(restarts: int) -> None:
    info = PreemptionInfo(deadline_ms=None, preempted_node_to_ranks={"n": [1]})
    assert decide(PreemptionError(info), restarts, 3, False) == "move"


@pytest.mark.parametrize("error", [FULL, RuntimeError("died")])
def test_other_faults_rewind_nothing(error: Exception) -> None:
    assert decide(error, 0, 3, True, 5) in ("tell the user", "retry")
