"""Metrics as scalars that TensorBoard shows."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from pipelines.shards import storage
from trainers.core.tracker import TrackerConfig


class Tensorboard:
    """Writes event files into ``RUN/tensorboard``; a resumed run drops points after its commit."""

    class Config(TrackerConfig):
        """Seconds between writes to an object store, where files cannot grow; more if slow."""

        interval: float = 30.0

    def __init__(self, config: Config, *, run: str, samples: int):
        """Continue a run's scalars from ``samples`` on."""
        self._url = storage.join(run, "tensorboard")
        self._interval = config.interval
        self._next = time.monotonic() + config.interval
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        fs, folder = storage.locate(self._url)
        if not storage.is_local(fs):
            self._temporary = tempfile.TemporaryDirectory(prefix="eagleray-")
            folder = self._temporary.name
        self._folder = Path(folder)
        # Not the library's usual writer: what that holds back, its flush leaves to a thread. Its
        # names differ by the second: a file of the same one would be replaced, and readers sort.
        prefix, suffix = str(self._folder / "events"), f".{time.time_ns()}"
        with storage.explained(self._url):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._writer: EventsWriter | None = EventsWriter(prefix, suffix)
        # Readers drop what earlier files have from this step on.
        start = SessionLog(status=SessionLog.START)
        self._write(self._writer, Event(step=samples + 1, session_log=start))

    def log(self, metrics: Mapping[str, float], *, samples: int) -> None:
        """Add a point to every metric's curve, at ``samples``."""
        if self._writer is None:
            return
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._write(self._writer, Event(step=samples, summary=Summary(value=values)))
        if self._temporary is None or time.monotonic() >= self._next:
            self.flush()

    def _write(self, writer: EventsWriter, event: Event) -> None:
        event.wall_time = time.time()
        with storage.explained(self._url):
            writer.write_event(event)

    def flush(self) -> None:
        """Write what is held back."""
        if self._writer is None:
            return
        with storage.explained(self._url):
            self._writer.flush()
        if self._temporary is not None:
            started = time.monotonic()
            for path in self._folder.iterdir():
                storage.write_atomic(storage.join(self._url, path.name), path.read_bytes())
            ended = time.monotonic()
            # All of it is written anew, while training waits: that is less than 1 % of the time.
            self._next = ended + max(self._interval, 100 * (ended - started))

    def close(self) -> None:
        """Write what is held back and close the file."""
        if self._writer is None:
            return
        self.flush()
        self._writer.close()
        self._writer = None
        if self._temporary is not None:
            self._temporary.cleanup()
