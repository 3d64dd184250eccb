"""The commit that all workers go on from: each looks for itself, and all must see the same."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.core import UserError
from pipelines.shards import storage
from trainers.checkpoint import Commit, latest
from trainers.core.collective import gather_objects
from trainers.model import RECIPE

_LOOKS = 45  # a network disk may show for a minute what was there before
_PAUSE = 2.0  # seconds between two of them


@dataclass(frozen=True)
class Seen:
    """What a worker sees of a run.

    Attributes:
        run: Whether the run is there at all: its driver has written its recipe.
        samples: Of the newest commit, 0 for none.
        digest: Of that commit.
    """

    run: bool
    samples: int
    digest: str


def agreed_commit(run: str) -> Commit | None:
    """The newest commit of a run, the same for all workers; every worker calls it.

    Raises:
        UserError: Workers see different runs, for a while.
    """
    for look in range(_LOOKS):
        if look:
            time.sleep(_PAUSE)
        found = latest(run)
        commit = (found.samples, found.digest) if found else (0, "")
        seen = gather_objects(Seen(storage.exists(storage.join(run, RECIPE)), *commit))
        if agree(seen):
            return found
    raise UserError(f"{run}: {disagreement(seen)}; --out must be one place that every node reaches")


def agree(seen: Sequence[Seen]) -> bool:
    """Whether all workers see the run, and the same commit of it."""
    return seen[0].run and all(one == seen[0] for one in seen)


def disagreement(seen: Sequence[Seen]) -> str:
    """What workers see differently, by rank."""
    blind = [rank for rank, one in enumerate(seen) if not one.run]
    if blind:
        return f"the run is not there for workers {', '.join(map(str, blind))}"
    commits = "; ".join(f"{one.samples} samples, {one.digest[:8] or 'none'}" for one in seen)
    return f"workers see another newest commit each: {commits}"
