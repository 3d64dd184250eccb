"""What a training worker is told."""

from __future__ import annotations

from typing import Annotated, Literal

from pipelines.core import Config
from pipelines.reader_config import ReaderConfig
from trainers.core.engine import EngineConfig
from trainers.core.tracker import TrackerConfig
from trainers.recipe import Recipe
from trainers.retention import Retention
from trainers.trackers import TRACKERS
from trainers.trackers.jsonl import Jsonl


class Job(Config):
    """All that a worker needs to know; plain data.

    Attributes:
        run: URL of the run.
        folder: Where relative paths of data sets start.
        recipe: What is learned.
        engine: Stage and precision.
        reader: How reading is spread.
        augment: Where views are made.
        patience: Seconds that a step may take before its worker counts as hanging.
        keep: Which commits are kept.
        skipped: Steps that make no update.
        leave: URL of a file that asks the workers to leave once it is there; empty for none.
        ledger: Whether the samples of every step are taken down.
        trackers: Where metrics go, beside ``metrics.jsonl``.
    """

    run: str
    folder: str
    recipe: Recipe
    engine: EngineConfig = EngineConfig()
    reader: ReaderConfig = ReaderConfig()
    augment: Literal["worker", "readers"] = "worker"
    patience: float = 1800.0
    keep: Retention = Retention()
    skipped: tuple[int, ...] = ()
    leave: str = ""
    ledger: bool = False
    trackers: tuple[Annotated[TrackerConfig, TRACKERS], ...] = (Jsonl.Config(),)
