"""What a run does beside learning: metrics, commits, pictures, evaluation requests."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import time
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray.train

from pipelines.core import StorageError
from pipelines.core.batch import Batch
from pipelines.decode.tokenizer import Tokenizer
from pipelines.reader import Reader
from pipelines.shards import storage
from pipelines.shards.quarantine import write_quarantine
from pipelines.tables import array
from pipelines.views import ClipView, ImageView, ViewSpec
from trainers.behind import Behind
from trainers.checkpoint import Place, Staged, State, latest, publish, stage
from trainers.collapse import FeatureWatch
from trainers.core.collective import gather_objects
from trainers.core.engine import Engine
from trainers.core.evaluation import Cell, GalleryRow
from trainers.core.pictures import png
from trainers.core.pictures import shown as pixels
from trainers.core.tracker import Tracker
from trainers.delivered import Delivered
from trainers.flops import Effort
from trainers.job import Job
from trainers.leaving import Leaving
from trainers.meter import Clock
from trainers.model import RECIPE, TOKENIZER
from trainers.requests import FileSink, request_for
from trainers.retention import prune
from trainers.trackers import TRACKERS
from trainers.watchdog import unwatched

_log = logging.getLogger(__name__)
_LONGEST = 2 * 3600.0  # seconds of waiting for the last commit; a part waits for others half of it
_AGAIN = 0.5  # seconds between two looks whether the last commit is written
_PICTURES = 6  # augmented samples shown in the report


def quarantine_url(run: str) -> str:
    """Where a run keeps its unreadable samples."""
    return storage.join(run, "quarantine.parquet")


def _clock_url(run: str) -> str:
    return storage.join(run, "clock.json")


def read_clock(run: str) -> Clock:
    """Where the time of a run went: up to where an attempt ended well, or to its last commit."""
    found = latest(run)
    clocks = [Clock.of(found.state().clock)] if found else [Clock()]
    if storage.exists(_clock_url(run)):
        clocks.append(Clock.of(json.loads(storage.read_text(_clock_url(run)))))
    return max(clocks, key=lambda clock: clock.train)


class RunHooks:
    """Metrics to trackers, commits to the run, evaluation requests to the sink."""

    def __init__(
        self,
        job: Job,
        engine: Engine,
        reader: Reader,
        tokenizer: Tokenizer | None,
        samples: int,
        leaving: Leaving,
        delivered: Delivered | None = None,
        effort: Effort | None = None,
    ):
        self._job, self._engine, self._reader = job, engine, reader
        self._leaving, self._delivered, self._effort = leaving, delivered, effort
        self._texts = {RECIPE: job.recipe.to_yaml()}
        if tokenizer:
            self._texts[TOKENIZER] = tokenizer.to_json()
        self._sink, self._behind = FileSink(job.run), Behind()
        self._features = FeatureWatch(engine.objective, job.recipe.collapse)
        self._resumed = samples > 0
        self._trackers: list[Tracker] = []
        if engine.rank == 0:
            self._trackers = [
                TRACKERS.build(tracker, run=job.run, samples=samples) for tracker in job.trackers
            ]

    def first(self, table: pa.Table, batch: Batch) -> None:
        """Count a sample's operations, and keep pictures of the first augmented views."""
        if self._effort:
            self._effort.count(batch)
        if self._engine.rank or self._resumed:
            return
        rows = view_pictures(table, batch, self._engine.objective.views)
        if not rows:
            return
        text = json.dumps({"rows": [row.model_dump(mode="json") for row in rows]})
        storage.write_text(storage.join(self._job.run, "views.json"), text)

    def log(self, metrics: dict[str, float], samples: int) -> None:
        """Hand a line to every tracker."""
        if self._effort:
            seen = metrics["samples_per_second"] * self._job.recipe.repeats
            metrics = metrics | self._effort.rates(seen)
        for tracker in self._trackers:
            tracker.log(metrics, samples=samples)

    def look(self, step: int, batch: Batch) -> dict[str, float]:
        """Look at the features, and say in the log where they have collapsed."""
        # A sample that is there again would count as a feature of its own.
        found = self._features(step, batch.every(self._job.recipe.repeats))
        if found.get("collapsed") and self._engine.rank == 0:
            _log.warning("features have collapsed at step %d: %s", step, found)
        return found

    def leaves(self) -> bool:
        """Whether all workers leave after this step.

        Raises:
            StorageError: The last commit could not be written.
        """
        self._behind.check()
        return self._leaving.agreed()

    def commit(
        self,
        samples: int,
        clock: Clock,
        faults: list[dict[str, Any]],
        unreadable: int,
        judged: bool,
    ) -> float:
        """Take a commit down; writing it to the run, and what follows from it, goes on behind.

        Returns:
            Seconds of waiting for the last one to be written and its evaluations to be asked for.
        """
        job, recipe = self._job, self._job.recipe
        state = State(
            samples=samples,
            cursors=tuple(Place(**vars(c)) for c in self._reader.order.cursors(samples)),
            clock=vars(clock),
            world_size=self._engine.world_size,
            zero_stage=job.engine.zero_stage,
            recipe=recipe.digest,
            data=self._reader.source.digest,
            unreadable=unreadable,
        )
        for tracker in self._trackers:
            tracker.flush()
        if self._delivered:
            self._delivered.write(job.run, samples)
        staged = stage(job.run, self._engine, state, self._texts)
        everyone = [fault for part in gather_objects(faults) for fault in part]
        ray.train.report({"samples": samples, **vars(clock)})
        started = time.perf_counter()
        self._await_last()
        self._behind.start(partial(self._publish, staged, everyone, judged))
        return time.perf_counter() - started

    def _await_last(self) -> None:
        """Wait until every worker's part of the last commit is written; that may be long.

        Workers ask each other again and again: no call of theirs waits for as long as an upload.

        Raises:
            StorageError: A part could not be written, or not in hours.
        """
        started = time.monotonic()
        with unwatched():
            while any(gather_objects(self._behind.busy)):
                self._behind.check()  # a part that failed here is waited for elsewhere
                if time.monotonic() - started > _LONGEST:
                    raise StorageError(f"{self._job.run}: the last commit is not written in hours")
                self._wait()

    def _wait(self) -> None:
        if self._behind.busy:
            self._behind.wait(_AGAIN)
        else:
            time.sleep(_AGAIN)

    def _publish(self, staged: Staged, faults: list[dict[str, Any]], judged: bool) -> None:
        job, made = self._job, staged.commit
        publish(staged, self._engine.rank)
        if self._engine.rank:
            return
        if job.recipe.evaluations and judged:
            asked = request_for(job.run, job.folder, made, job.recipe.evaluations)
            self._sink.submit(asked)
        write_quarantine(quarantine_url(job.run), faults)
        prune(job.run, job.keep)

    def quarantine(self, faults: list[dict[str, Any]]) -> None:
        """Keep the unreadable samples of all workers where the run stops because of them."""
        self.settle()
        if self._engine.rank == 0:
            with contextlib.suppress(Exception):
                write_quarantine(quarantine_url(self._job.run), faults)
        gather_objects(None)  # a worker that stops ends the others

    def settle(self) -> None:
        """Let the last commit of all workers be completed, where all stop alike for another fault.

        A worker that stops ends the others soon after, and with them what they still write.
        """
        # A part that failed is not told here: who left for it would leave the others waiting.
        with unwatched():
            while any(gather_objects(self._behind.busy)):
                self._wait()

    def finish(self, clock: Clock) -> None:
        """See the last commit completed, and keep where the time went."""
        self._behind.join()
        if self._engine.rank == 0:
            storage.write_text(_clock_url(self._job.run), json.dumps(vars(clock)))

    def close(self) -> None:
        """Let the last commit be completed, and write what trackers hold back."""
        with unwatched(), contextlib.suppress(Exception):
            self._behind.join()
        for tracker in self._trackers:
            with contextlib.suppress(Exception):  # the run's own error matters more
                tracker.close()


def view_pictures(table: pa.Table, batch: Batch, views: ViewSpec) -> list[GalleryRow]:
    """Originals beside their augmented views; of films and clips the first frames."""
    shown = {name: batch.views[name] for name, v in views.items() if isinstance(v, ImageView)}
    clips = {name: batch.views[name] for name, v in views.items() if isinstance(v, ClipView)}
    if not shown and not clips:
        return []
    first = "" if shown else ", first frame"
    source = "image" if shown else "video"
    if source not in table.column_names:  # its views were made where it was read
        return []
    originals = _originals(table, source)
    shown |= {name: clip[:, 0] for name, clip in clips.items()}
    repeats = len(batch) // table.num_rows
    rows = []
    for place in range(min(_PICTURES, table.num_rows)):
        cells = [Cell(image=png(originals[place]), text=f"original{first}", mark="query")]
        for name, view in shown.items():
            picture = pixels(view[place * repeats, None])[0].cpu().numpy()
            cells.append(Cell(image=png(picture), text=f"{name}{first}"))
        rows.append(GalleryRow(group="originals and their augmented views", cells=tuple(cells)))
    return rows


def _originals(table: pa.Table, name: str) -> npt.NDArray[np.uint8]:
    """The image of each row, or the first frame of its film. [B, S, S, 3]."""
    types = table.schema
    frames = types.field("video.times").type.list_size if name == "video" else 1
    side = math.isqrt(types.field(name).type.list_size // (3 * frames))
    shape = (frames, side, side, 3)
    stored = array(table, name, {name: (shape, np.dtype(np.uint8))})
    return stored[:, 0].astype(np.uint8, copy=False)
