"""Metrics as lines of JSON beside the run."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

from pipelines import core
from pipelines.shards import storage


class Jsonl:
    """Writes ``RUN/metrics.jsonl``; a resumed run drops lines after its commit."""

    class Config(core.Config):
        """Seconds between writes."""

        interval: float = 2.0

    def __init__(self, config: Config, *, run: str, samples: int):
        """Continue a run's file from ``samples`` on."""
        self._url = storage.join(run, "metrics.jsonl")
        self._interval = config.interval
        self._lines = (
            _kept(storage.read_text(self._url), samples) if storage.exists(self._url) else []
        )
        self._written = 0.0

    def log(self, metrics: Mapping[str, float], *, samples: int) -> None:
        """Add a line."""
        self._lines.append(json.dumps({"samples": samples, **metrics}))
        if time.monotonic() - self._written >= self._interval:
            self.flush()

    def flush(self) -> None:
        """Write the file."""
        storage.write_text(self._url, "".join(f"{line}\n" for line in self._lines))
        self._written = time.monotonic()

    def close(self) -> None:
        """Write the file."""
        self.flush()


def _kept(text: str, samples: int) -> list[str]:
    kept = []
    for line in text.splitlines():
        try:
            if json.loads(line)["samples"] <= samples:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue  # a torn line of a killed run; its commit does not depend on it
    return kept
