"""Ray Data's statistics, left out where nobody can see them."""

from __future__ import annotations

import os
import uuid

COLLECTED = "RAY_enable_metrics_collection"
"""The variable that tells Ray's processes whether metrics are asked for."""
_TOLD = (
    "register_dataset_to_stats_actor",
    "update_execution_metrics",
    "update_iteration_metrics",
)


def leave_out_statistics() -> None:
    """Keep no statistics of graphs in this process, where its cluster shows none.

    They are an actor's: a process that, even waiting, takes 0.8 % of a core beside the steps.
    """
    if os.environ.get(COLLECTED) != "0":
        return
    # Here: whoever needs the variable's name alone does without the second that this import takes.
    from ray.data._internal.stats import _StatsManager

    for name in _TOLD:
        setattr(_StatsManager, name, staticmethod(_nothing))
    _StatsManager.gen_dataset_id_from_stats_actor = staticmethod(_number)


def _nothing(*_: object, **__: object) -> None:
    """In place of telling the actor."""


def _number() -> str:
    """A data set's number, as the library makes it where there is no actor."""
    return uuid.uuid4().hex
