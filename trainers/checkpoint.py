"""Commits: a checkpoint exists when its manifest does, and the manifest is written last.

``RUN/checkpoints/<samples>/`` holds ``manifest.json`` (names, sizes and
SHA-256 of all files), ``state.json`` (cursor, digests of recipe and data),
``model.safetensors`` (for evaluation and export) and ``engine/`` (each
worker's part, for resuming).
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from pipelines.core import Config, StorageError
from pipelines.shards import storage
from trainers.core.collective import gather_objects, world
from trainers.core.engine import Engine
from trainers.staging import Folder, staging, sweep
from trainers.tensor_file import write_tensors

MANIFEST, STATE, MODEL, ENGINE = "manifest.json", "state.json", "model.safetensors", "engine"
Files = Mapping[str, Mapping[str, str | int]]
"""SHA-256 and size of files by name."""
_log = logging.getLogger(__name__)
_FULL = 1 << 24  # bytes free below which a failed write means a full disk
_NAME = re.compile(r"\d{12}")
_FILE = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)*")


class Place(Config):
    """Where a data set stands: epoch and place of its next sample."""

    epoch: int
    position: int


class State(Config):
    """Where a commit stands.

    Attributes:
        samples: Samples seen: the cursor into the endless stream of epochs.
        cursors: Where each data set stands: one, or those of a mixture.
        clock: Seconds of training so far, by what they went into.
        world_size: Workers that wrote it.
        zero_stage: ZeRO stage it was written under.
        recipe: Digest of the recipe.
        data: Digest of the data set.
        unreadable: Samples that could not be read so far, each as often as it came.
    """

    samples: int
    cursors: tuple[Place, ...]
    clock: Mapping[str, float]
    world_size: int
    zero_stage: int
    recipe: str
    data: str
    unreadable: int = 0


@dataclass(frozen=True)
class Commit:
    """A complete checkpoint: its place, its digest, and digest and size of its files."""

    url: str
    samples: int
    digest: str
    files: dict[str, tuple[str, int]]

    def state(self) -> State:
        """Read where it stands.

        Raises:
            StorageError: It is missing, damaged or of another version.
        """
        try:
            return State.model_validate_json(self.read(STATE))
        except ValidationError:
            raise StorageError(
                f"{self.url}/{STATE}: damaged or of another version; use another commit"
            ) from None

    def read(self, name: str) -> bytes:
        """Read one file and verify it.

        Raises:
            StorageError: It is missing or not what was written.
        """
        if name not in self.files:
            raise StorageError(f"{self.url}: the checkpoint has no {name}")
        data = storage.read_bytes(storage.join(self.url, name))
        if hashlib.sha256(data).hexdigest() != self.files[name][0]:
            raise StorageError(f"{self.url}/{name}: differs from its manifest; use another commit")
        return data

    def read_text(self, name: str) -> str:
        """Read one file of text and verify it.

        Raises:
            StorageError: It is missing, not what was written, or not UTF-8.
        """
        try:
            return self.read(name).decode()
        except UnicodeDecodeError:
            raise StorageError(f"{self.url}/{name}: not UTF-8 text; use another commit") from None

    def fetch_engine(self, folder: Path) -> None:
        """Copy the engine's verified files into a local folder.

        Raises:
            StorageError: One is not what was written, or the folder's disk is full.
        """
        for name in self.files:
            if name.startswith(f"{ENGINE}/"):
                target, data = folder / name.removeprefix(f"{ENGINE}/"), self.read(name)
                with storage.explained(str(target)):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(data)


def name_of(samples: int) -> str:
    """Folder name of a commit."""
    return f"{samples:012d}"


def open_commit(url: str) -> Commit:
    """Open a checkpoint by its folder.

    Raises:
        StorageError: There is none, or its manifest is damaged.
    """
    manifest = storage.join(url, MANIFEST)
    if not storage.exists(manifest):
        raise StorageError(f"{url}: no checkpoint there; give RUN/checkpoints/<samples>")
    data = storage.read_bytes(manifest)
    try:
        content = json.loads(data)
        files = {str(n): (str(f["sha256"]), int(f["size"])) for n, f in content["files"].items()}
        samples = int(content["samples"])
        if not all(_FILE.fullmatch(name) and ".." not in name for name in files):
            raise ValueError("a file name that is none")
    except (ValueError, OverflowError, RecursionError, KeyError, TypeError, AttributeError):
        raise StorageError(f"{manifest}: damaged; delete this checkpoint") from None
    return Commit(url, samples, hashlib.sha256(data).hexdigest(), files)


def committed(run: str) -> list[int]:
    """Sample counts of all complete checkpoints of a run, ascending."""
    return [samples for samples in _begun(run) if _complete(run, samples)]


def newest(run: str) -> int:
    """Sample count of the newest complete checkpoint of a run; 0 without one.

    Of all that are kept the store is asked for no more than it takes.
    """
    return next((samples for samples in reversed(_begun(run)) if _complete(run, samples)), 0)


def _begun(run: str) -> list[int]:
    """Sample counts of all checkpoints, ascending, those included that have no manifest."""
    names = storage.names(storage.join(run, "checkpoints"))
    return [int(name) for name in names if _NAME.fullmatch(name)]


def _complete(run: str, samples: int) -> bool:
    return storage.exists(storage.join(run, "checkpoints", name_of(samples), MANIFEST))


def commit_at(run: str, samples: int) -> Commit:
    """Open a run's commit by its sample count."""
    return open_commit(storage.join(run, "checkpoints", name_of(samples)))


def discard(run: str, samples: int) -> None:
    """Remove a commit: its manifest first, so that it is never half there."""
    url = storage.join(run, "checkpoints", name_of(samples))
    storage.remove(storage.join(url, MANIFEST))
    storage.remove_folder(url)


def discard_abandoned(run: str) -> None:
    """Remove what ended attempts left: staged parts, and commits that never got a manifest.

    Worker 0 calls it before its attempt's first commit.
    """
    sweep(run)
    root = storage.join(run, "checkpoints")
    try:
        storage.remove_unfinished(root)
    except StorageError as error:  # whoever may write need not be allowed to list uploads
        _log.warning("parts of uploads that were never completed may be left: %s", error)
    complete = {name_of(samples) for samples in committed(run)}
    for name in storage.names(root):
        if _NAME.fullmatch(name) and name not in complete:
            storage.remove_folder(storage.join(root, name))


def latest(run: str) -> Commit | None:
    """The newest complete checkpoint of a run, or None."""
    found = newest(run)
    return commit_at(run, found) if found else None


def find(checkpoint: str) -> Commit:
    """Open a checkpoint, by its folder or its sample count there, or the newest of a run.

    Raises:
        StorageError: There is none.
    """
    head, _, number = checkpoint.rstrip("/").rpartition("/")
    if number.isdecimal() and head.rpartition("/")[2] == "checkpoints":
        checkpoint = storage.join(head, name_of(int(number)))
    if storage.exists(storage.join(checkpoint, MANIFEST)):
        return open_commit(checkpoint)
    last = latest(checkpoint)
    return last if last is not None else open_commit(checkpoint)


@dataclass(frozen=True)
class Staged:
    """A checkpoint as this worker holds it on its own disk, before any of it counts.

    Attributes:
        commit: What it will be.
        manifest: The manifest's text.
        parts: Every worker's files, in the order of ranks.
        folder: This worker's files; removed once they are in the run.
    """

    commit: Commit
    manifest: str
    parts: Sequence[Files]
    folder: Folder


def stage(run: str, engine: Engine, state: State, texts: Mapping[str, str]) -> Staged:
    """Write this worker's part to its disk; training may go on afterwards. Every worker calls it.

    Args:
        run: The run's URL.
        engine: Writes weights and its own state.
        state: Where the run stands.
        texts: Further files by name: the recipe, the tokenizer.

    Raises:
        StorageError: This worker could not write.
    """
    url = storage.join(run, "checkpoints", name_of(state.samples))
    with _nothing_lost(), storage.explained(url):
        folder = staging(run)
        try:
            parts = gather_objects(_write_part(folder.path, engine, state, texts))
        except BaseException:
            folder.close()
            raise
    files = {name: entry for part in parts for name, entry in part.items()}
    manifest = json.dumps({"samples": state.samples, "files": files}, indent=1, sort_keys=True)
    digests = {name: (str(entry["sha256"]), int(entry["size"])) for name, entry in files.items()}
    made = Commit(url, state.samples, hashlib.sha256(manifest.encode()).hexdigest(), digests)
    return Staged(made, manifest, parts, folder)


def publish(staged: Staged, rank: int, patience: float = 3600.0) -> None:
    """Move this worker's part into the run; worker 0 then waits for the others', and completes it.

    Not collective, so that it may run beside training.

    Args:
        staged: What ``stage`` made.
        rank: Of this worker.
        patience: Seconds that worker 0 waits for the others.

    Raises:
        StorageError: This worker could not write, or another one did not in time. The half-written
            checkpoint has no manifest and is never chosen.
    """
    url = staged.commit.url
    try:
        with _nothing_lost():
            for name in staged.parts[rank]:
                storage.move_in(staged.folder.path / name, storage.join(url, name))
            if rank:
                storage.write_text(_mark(url, rank), _digest(staged.parts[rank]))
                return
            others = range(1, len(staged.parts))
            deadline = time.monotonic() + patience
            for other in others:
                _await(_mark(url, other), _digest(staged.parts[other]), deadline)
            storage.write_text(storage.join(url, MANIFEST), staged.manifest)
            for other in others:
                storage.remove(_mark(url, other))
    finally:
        staged.folder.close()


def _mark(url: str, rank: int) -> str:
    return storage.join(url, f"part-{rank:05d}.sha256")


def _digest(part: Files) -> str:
    """Of a worker's files: a mark that an earlier attempt left says the same of the same files."""
    return hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()


def _await(url: str, text: str, deadline: float) -> None:
    pause = 0.01
    while not (storage.exists(url) and storage.read_text(url) == text):
        if time.monotonic() > deadline:
            raise StorageError(f"{url}: another worker's part of the checkpoint never came")
        time.sleep(pause)
        pause = min(1.0, 2 * pause)


@contextmanager
def _nothing_lost() -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        raise type(error)(f"{error}; nothing is lost up to the last commit") from None


def _write_part(folder: Path, engine: Engine, state: State, texts: Mapping[str, str]) -> Files:
    weights = engine.weights()
    (folder / ENGINE).mkdir()
    _save_engine(engine, folder / ENGINE)
    if world()[0] == 0:
        whole = {name: value.contiguous().cpu() for name, value in weights.items()}
        write_tensors(whole, folder / MODEL)
        for file, text in {STATE: state.model_dump_json(indent=1), **texts}.items():
            (folder / file).write_text(text, encoding="utf-8")
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): _entry(path) for path in paths}


def _entry(path: Path) -> dict[str, str | int]:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"sha256": digest, "size": path.stat().st_size}


def _save_engine(engine: Engine, folder: Path) -> None:
    try:
        engine.save(folder)
    except RuntimeError as error:  # torch's writer hides the system's error
        if shutil.disk_usage(folder).free < _FULL:
            raise OSError(errno.ENOSPC, "No space left on device") from error
        raise
