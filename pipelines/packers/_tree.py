"""What a URL holds, before anything is read: a folder with its files, one file, or a pattern's."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.shards import storage
from pipelines.shards.storage_faults import PATIENCE, call, retried


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that is left out: what, and why in words that all of its sort share."""

    place: str
    reason: str


@dataclass(frozen=True)
class Tree:
    """A source of plain data.

    Attributes:
        src: The URL as given.
        folder: Whether it is a folder.
        names: Paths of its files relative to ``src``, sorted; whole URLs where it is no folder.
        skipped: What the walk left out, links above all.
        hidden: How many files and folders whose names begin with a dot were passed over.
    """

    src: str
    folder: bool
    names: tuple[str, ...]
    skipped: tuple[Skipped, ...] = ()
    hidden: int = 0

    def url(self, name: str) -> str:
        """Where a file of ``names`` is."""
        return storage.join(self.src, name) if self.folder else name


def open_tree(src: str) -> Tree:
    """List what a URL or pattern holds.

    Links that leave the folder, linked folders, devices and pipes are not
    followed; hidden files and folders are passed over.

    Raises:
        StorageError: Nothing is there.
    """
    fs, path = storage.locate(src)
    with storage.explained(src):
        fs.invalidate_cache(path)
        if not _asked(fs, "isdir", path):
            one = _asked(fs, "isfile", path) or not set("*?[{") & set(src)
            found = [src] if one else storage.expand(src)
            _asked(fs, "info", storage.locate(found[0])[1])  # explains one that is not there
            return Tree(src, folder=False, names=tuple(found))
        local = storage.is_local(fs)
        listed = _walk(Path(path)) if local else _listed(_asked(fs, "find", path), path)
        names, skipped, hidden = [], [], set()
        for name, fault in listed:
            parts = name.split("/")
            dotted = next((n for n, part in enumerate(parts) if part.startswith(".")), None)
            if dotted is not None:
                hidden.add("/".join(parts[: dotted + 1]))
            elif fault:
                skipped.append(Skipped(name, fault))
            else:
                names.append(name)
    return Tree(src, True, tuple(sorted(names)), tuple(sorted(skipped, key=_place)), len(hidden))


def _asked(fs: Any, name: str, path: str) -> Any:
    return retried(lambda: call(fs, name, path, size=PATIENCE))


def _place(skipped: Skipped) -> str:
    return skipped.place


def _listed(paths: list[str], root: str) -> Iterator[tuple[str, str]]:
    prefix = root.rstrip("/") + "/"
    for path in paths:
        name = path.removeprefix(prefix)
        if name and not name.endswith("/"):  # object stores mark folders with such names
            yield name, ""


def _walk(root: Path) -> Iterator[tuple[str, str]]:
    real = Path(os.path.realpath(root))
    closed: list[OSError] = []
    for at, folders, files in os.walk(real, onerror=closed.append):
        here = Path(at)
        for name in folders:
            path = here / name
            if path.is_symlink():
                yield path.relative_to(real).as_posix(), "a linked folder, which is not followed"
            elif name.startswith("."):
                yield path.relative_to(real).as_posix(), ""
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = here / name
            fault = _outside(real, path) if path.is_symlink() else ""
            yield path.relative_to(real).as_posix(), fault or _special(path)
    for error in closed:
        if Path(error.filename) == real:
            raise error
        yield Path(error.filename).relative_to(real).as_posix(), "a folder that cannot be listed"


def local_fault(folder: str, url: str) -> str:
    """Say why a file that a table names is not read, or an empty string.

    Args:
        folder: URL of the folder that it may not leave, not even by links.
        url: A place below it.
    """
    fs, path = storage.locate(url)
    if not storage.is_local(fs):
        return ""
    root = Path(os.path.realpath(storage.locate(folder)[1]))
    return _outside(root, Path(path)) or _special(Path(path))


def special(url: str) -> str:
    """Say why a local file is not read that is none, such as a pipe; else an empty string."""
    fs, path = storage.locate(url)
    return _special(Path(path)) if storage.is_local(fs) else ""


def _outside(root: Path, path: Path) -> str:
    inside = Path(os.path.realpath(path)).is_relative_to(root)
    return "" if inside else "a link that leaves the folder"


def _special(path: Path) -> str:
    try:
        mode = path.stat().st_mode
    except OSError:
        return ""  # reading it will say why
    return "" if stat.S_ISREG(mode) else "no regular file"
