"""Contract of trackers: where metrics go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Tracker(Protocol):
    """Receives metrics on worker 0; a file in ``trainers/trackers``."""

    def log(self, metrics: Mapping[str, float], *, samples: int) -> None:
        """Record metrics of a point in training."""
        ...

    def flush(self) -> None:
        """Write what is held back: a commit follows, and must not have more than its metrics."""
        ...

    def close(self) -> None:
        """Write what is held back and let go."""
        ...
