"""What to do when a training attempt ends in an error: a pure decision."""

from __future__ import annotations

from typing import Literal

from ray.train.v2.api.exceptions import PreemptionError

from pipelines.core import UserError
from trainers.meter import NotFinite

Decision = Literal["retry", "move", "rewind", "tell the user", "give up"]


def user_error(error: BaseException) -> UserError | None:
    """Find the fault that a user can put right inside an error of a worker group."""
    causes = [error, *getattr(error, "worker_failures", {}).values()]
    for cause in causes:
        seen: BaseException | None = cause
        while seen is not None:
            if isinstance(seen, UserError):
                return seen
            inner = getattr(seen, "cause", None) or seen.__cause__
            seen = inner if isinstance(inner, BaseException) else None
    return None


def decide(
    error: BaseException, restarts: int, allowed: int, progressed: bool, rewinds: int = 0
) -> Decision:
    """Decide after a failed attempt.

    A node that was announced to go is no failure: the run moves on without it. A batch
    whose loss is not finite is left out, as often as the recipe allows. A user's
    fault is told, for it would happen again. A worker that died is replaced, as
    long as attempts are left; an attempt that committed something new does not use one up.

    Args:
        error: What the attempt raised.
        restarts: Attempts that failed without a new commit, this one not counted.
        allowed: How many may.
        progressed: Whether this attempt made a new commit.
        rewinds: How many more batches may be left out.
    """
    if isinstance(user_error(error), NotFinite) and rewinds > 0:
        return "rewind"
    if user_error(error) is not None:
        return "tell the user"
    if isinstance(error, PreemptionError):
        return "move"
    return "retry" if progressed or restarts < allowed else "give up"
