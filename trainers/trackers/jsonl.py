"""Metrics as lines of JSON beside the run."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from pipelines.shards import storage
from trainers.core.tracker import TrackerConfig


class Jsonl:
    """Writes ``RUN/metrics.jsonl``; a resumed run drops lines after its commit."""

    class Config(TrackerConfig):
        """Seconds between writes to an object store, where files cannot grow; more if slow."""

        interval: float = 30.0

    def __init__(self, config: Config, *, run: str, samples: int):
        """Continue a run's file from ``samples`` on."""
        self._url = storage.join(run, "metrics.jsonl")
        self._interval = config.interval
        known = storage.read_text(self._url) if storage.exists(self._url) else ""
        self._lines = _kept(known, samples)
        self._file: IO[str] | None = None
        self.flush()
        fs, path = storage.locate(self._url)
        if storage.is_local(fs):
            with storage.explained(self._url):
                self._file = Path(path).open("a", encoding="utf-8")  # noqa: SIM115 until close()

    def log(self, metrics: Mapping[str, float], *, samples: int) -> None:
        """Add a line."""
        line = json.dumps({"samples": samples, **metrics})
        if self._file is not None:
            with storage.explained(self._url):
                self._file.write(f"{line}\n")
                self._file.flush()
            return
        self._lines.append(line)
        if time.monotonic() >= self._next:
            self.flush()

    def flush(self) -> None:
        """Write what is held back."""
        if self._file is None:
            started = time.monotonic()
            storage.write_text(self._url, "".join(f"{line}\n" for line in self._lines))
            ended = time.monotonic()
            # All of it is written anew, while training waits: that is less than 1 % of the time.
            self._next = ended + max(self._interval, 100 * (ended - started))

    def close(self) -> None:
        """Write what is held back and close the file."""
        self.flush()
        if self._file is not None:
            self._file.close()


def _kept(text: str, samples: int) -> list[str]:
    kept = []
    for line in text.splitlines():
        try:
            if json.loads(line)["samples"] <= samples:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue  # a torn line of a killed run; its commit does not depend on it
    return kept
