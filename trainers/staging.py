"""Where a worker keeps a part of a commit on its disk before or after it is in the run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from pipelines.shards import storage
from trainers.held import HeldFolder

_PREFIX = "eagleray-part-"


class Folder(Protocol):
    """A folder for files that are on their way."""

    path: Path

    def close(self) -> None:
        """Remove it."""
        ...


class _Beside:
    """A folder inside a local run, so that a full disk is met here and a rename suffices."""

    def __init__(self, parent: Path):
        parent.mkdir(parents=True, exist_ok=True)
        self.path = Path(tempfile.mkdtemp(prefix="part-", dir=parent))

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self.path)


def staging(run: str) -> Folder:
    """Make a folder for a part of a commit.

    Raises:
        OSError: It cannot be made.
    """
    beside = _beside(run)
    return _Beside(beside) if beside else HeldFolder(Path(tempfile.gettempdir()), _PREFIX)


@contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder on this worker's disk.

    Raises:
        StorageError: It cannot be made.
    """
    place = tempfile.gettempdir()
    with storage.explained(place):
        folder = HeldFolder(Path(place), _PREFIX)
    try:
        yield folder.path
    finally:
        folder.close()


def sweep(run: str) -> None:
    """Remove what workers staged in a run and were ended before they could move it there.

    Worker 0 calls it before any of its attempt's stages. Of other places the next folder that is
    made there takes care.
    """
    beside = _beside(run)
    if beside is not None:
        shutil.rmtree(beside, ignore_errors=True)


def _beside(run: str) -> Path | None:
    fs, path = storage.locate(storage.join(run, "checkpoints", ".staging"))
    return Path(path) if storage.is_local(fs) else None
