"""Contract of trackers: where metrics go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from pipelines.core import Config


class TrackerConfig(Config):
    """What every tracker's nested ``Config`` is."""

    def check(self, run: str) -> None:
        """Refuse a run whose metrics could not be taken, before anything is prepared for it.

        Args:
            run: URL of the run; it need not exist.

        Raises:
            ConfigError: A package is missing, or the run is where the tracker cannot write.
        """


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
