"""Metrics among Ray's own, where Prometheus finds them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ray.util.metrics import Gauge

from pipelines.shards import storage
from trainers.core.tracker import TrackerConfig


class Prometheus:
    """Shows the latest value of every metric at Ray's endpoint, as ``ray_eagleray_<metric>``.

    A gauge has no past: lines that a commit does not have cannot be taken back, the next
    replaces them. It is gone a while after its worker has ended.
    """

    class Config(TrackerConfig):
        """Nothing to choose: Ray's own settings say where its endpoint is."""

    def __init__(self, config: Config, *, run: str, samples: int):
        """Mark every value with the run's URL."""
        del config, samples
        self._tags = {"run": storage.redact(run)}
        self._gauges: dict[str, Gauge] = {}

    def log(self, metrics: Mapping[str, float], *, samples: int) -> None:
        """Replace every metric's value, and that of ``samples``."""
        for name, value in {**metrics, "samples": float(samples)}.items():
            if name not in self._gauges:
                # Prometheus allows these alone, and Ray ends the process over any other.
                full = re.sub(r"[^a-zA-Z0-9_]", "_", f"eagleray_{name}")
                self._gauges[name] = Gauge(full, f"Training: {name}", tag_keys=("run",))
            self._gauges[name].set(value, tags=self._tags)

    def flush(self) -> None:
        """Nothing is held back: Ray collects the values every few seconds."""

    def close(self) -> None:
        """Leave the last values to Ray."""
