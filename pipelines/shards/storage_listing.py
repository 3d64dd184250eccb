"""Which files a pattern names, with few requests however many shards there are."""

from __future__ import annotations

import os
import posixpath
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from braceexpand import braceexpand
from fsspec.utils import glob_translate

from pipelines.core import StorageError
from pipelines.shards import storage_s3
from pipelines.shards.storage_faults import PATIENCE, call, explained, retried, siblings, told
from pipelines.shards.storage_places import is_local, is_s3, is_web, locate
from pipelines.shards.storage_secrets import refuse_secrets

_ALONE = 8  # so many names in one folder are asked for one by one, more by its listing
_AT_ONCE = 8
_MAGIC = re.compile(r"[*?[]")
# What filesystems call a file's version: S3, GCS and Azure, local, others.
_VERSIONS = (
    *("ETag", "etag", "blob_id", "mtime", "last_modified", "LastModified", "Last-Modified"),
    *("updated", "created"),
)
# And what they call the time that it was written.
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "created")

T = TypeVar("T")
Info = Mapping[str, Any]


@dataclass(frozen=True)
class _Alternative:
    """One brace alternative: where it is, and the folder whose listing can answer for it."""

    url: str
    fs: Any
    path: str

    @property
    def folder(self) -> str:
        return posixpath.dirname(self.path)

    @property
    def is_glob(self) -> bool:
        return _MAGIC.search(self.path) is not None

    @property
    def is_deep(self) -> bool:
        """Whether several folders may hold its files."""
        return "**" in self.path or _MAGIC.search(self.folder) is not None

    @property
    def stem(self) -> str:
        """What the last part begins with, before its first glob."""
        return _MAGIC.split(posixpath.basename(self.path))[0]

    def url_of(self, path: str) -> str:
        url: str = self.fs.unstrip_protocol(path)
        return url.removeprefix("file://")


def stamp(url: str) -> str:
    """Size and version of a file (entity tag or time of change), to see whether it changed."""
    fs, path = locate(url)
    with explained(url):
        return stamp_of(retried(lambda: call(fs, "info", path)))


def stamp_of(info: Info) -> str:
    """The stamp of a file, from what its filesystem says of it."""
    version = next((info[name] for name in _VERSIONS if info.get(name)), "")
    if isinstance(version, datetime):  # some give seconds in a listing and this for one file
        version = version.timestamp()
    return f"{info['size']}:{version}"


def stamps(url: str) -> dict[str, str]:
    """Names of the files in a folder, each with its stamp; none where there is no folder."""
    infos = entries(url, detail=True)
    files = {info["name"]: info for info in infos if info["type"] != "directory"}
    return {posixpath.basename(name): stamp_of(info) for name, info in files.items()}


def entries(url: str, detail: bool) -> list[Any]:
    """What a filesystem lists of a folder: paths, or what is known of each; [] without a folder."""
    fs, path = locate(url)
    with explained(url):
        fs.invalidate_cache(path)
        try:
            return list(retried(lambda: call(fs, "ls", path, detail=detail, size=PATIENCE)))
        except FileNotFoundError:
            return []


def changed(url: str) -> float | None:
    """When a file was written, by the clock of what keeps it.

    Returns:
        Seconds since 1970; None where the filesystem does not say.
    """
    fs, path = locate(url)
    with explained(url):
        info: Info = retried(lambda: call(fs, "info", path))
    found = next((info[name] for name in _TIMES if info.get(name)), None)
    if isinstance(found, str):
        found = datetime.fromisoformat(found)
    if isinstance(found, datetime):
        found = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    return None if found is None else float(found)


def expand(pattern: str) -> list[str]:
    """List the URLs that a brace and glob pattern names, sorted within each brace alternative.

    Raises:
        StorageError: Nothing matches, or the braces are not balanced.
    """
    alternatives = _alternatives(pattern)
    globs = [alternative for alternative in alternatives if alternative.is_glob]
    listed = _list_folders([one for one in globs if not one.is_deep])
    urls: list[str] = []
    for one in alternatives:
        hits = _matches(one, listed) if one.is_glob else [one.path]
        urls += [one.url_of(hit) for hit in hits]
    if not urls:
        raise told(pattern, f"no file matches; {siblings(pattern)}")
    return urls


def listing(pattern: str) -> list[tuple[str, str]]:
    """List the files that a brace and glob pattern names, each with its stamp.

    The order is that of ``expand``. In an object store each folder is listed
    once, whatever the number of files. Files are asked for one by one where
    they are few, where their folder may not be listed, and on web servers,
    whose listings have neither all files nor their sizes.

    Raises:
        StorageError: Nothing matches, a file is missing, or the braces are not balanced.
    """
    alternatives = _alternatives(pattern)
    if all(is_local(one.fs) for one in alternatives):
        # A disk's listing has no times of change, and those of links are not their files'.
        return [(url, stamp(url)) for url in expand(pattern)]
    listed = _list_folders([one for one in alternatives if not one.is_deep], alone=_ALONE)
    found = [
        (one, path, info)
        for one in alternatives
        for path, info in (_matches(one, listed) if one.is_glob else _named(one, listed)).items()
    ]
    if not found:
        raise told(pattern, f"no file matches; {siblings(pattern)}")
    asked = iter(_at_once(_ask, [(one, path) for one, path, info in found if not _known(info)]))
    return [
        (one.url_of(path), stamp_of(info if _known(info) else next(asked)))
        for one, path, info in found
    ]


def _known(info: Info) -> bool:
    """Whether a listing says enough of a file for its stamp."""
    return info.get("size") is not None


def _ask(one: _Alternative, path: str) -> Info:
    with explained(one.url_of(path) if one.is_glob else one.url):
        info: Info = retried(lambda: call(one.fs, "info", path))
    return info


def _at_once(act: Callable[..., T], jobs: Iterable[Sequence[Any]]) -> list[T]:
    """Do it for all, some at a time, as patiently as this thread; after a fault begin no more."""
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        begun = [pool.submit(copy_context().run, act, *job) for job in jobs]
        return [job.result() for job in begun]
    finally:
        pool.shutdown(cancel_futures=True)


def _alternatives(pattern: str) -> list[_Alternative]:
    refuse_secrets(pattern)
    try:
        urls = list(braceexpand(pattern))
    except ValueError:
        raise StorageError(f"{pattern}: its braces do not pair up") from None
    return [_Alternative(url, *locate(url)) for url in urls]


@dataclass(frozen=True)
class _Folder:
    """Files of a folder: their paths in order, and what is known of each."""

    paths: Sequence[str]
    infos: Mapping[str, Info]

    def beginning(self, start: str) -> Iterator[str]:
        """Paths that begin with ``start``, found by halving: there may be many globs and files."""
        for number in range(bisect_left(self.paths, start), len(self.paths)):
            if not self.paths[number].startswith(start):
                return
            yield self.paths[number]


_Listed = Mapping[tuple[Any, str], _Folder]


def _list_folders(alternatives: Sequence[_Alternative], alone: int = 0) -> _Listed:
    """List the files of each folder that has a glob or more than ``alone`` names.

    One that may not be listed is left out: its files may be readable all the same.
    """
    groups: dict[tuple[Any, str], list[_Alternative]] = defaultdict(list)
    for one in alternatives:
        groups[one.fs, one.folder].append(one)
    wanted = {
        place: group
        for place, group in groups.items()
        if any(one.is_glob for one in group) or (len(group) > alone and not is_web(group[0].fs))
    }
    found = _at_once(_list_folder, [(group,) for group in wanted.values()])
    return {
        place: folder for place, folder in zip(wanted, found, strict=True) if folder is not None
    }


def _list_folder(group: Sequence[_Alternative]) -> _Folder | None:
    first = group[0]
    stem = os.path.commonprefix([one.stem for one in group])  # noqa: RUF071 - of characters
    with explained(first.url):
        try:
            if is_s3(first.fs):
                infos = storage_s3.files(first.fs, first.folder, stem)
            else:
                act = partial(call, first.fs, "ls", first.folder, detail=True, size=PATIENCE)
                infos = {info["name"].rstrip("/"): info for info in retried(act)}
        except FileNotFoundError:
            infos = {}
        except PermissionError:
            if any(one.is_glob for one in group):
                raise
            return None
    paths = [path for path in sorted(infos) if infos[path]["type"] != "directory"]
    return _Folder(paths, infos)


def _named(one: _Alternative, listed: _Listed) -> Mapping[str, Info]:
    """What a listing says of a name; nothing where it has to be asked for by itself."""
    folder = listed.get((one.fs, one.folder))
    if folder is None or is_web(one.fs):
        return {one.path: {}}
    with explained(one.url):
        if one.path not in folder.infos:
            raise FileNotFoundError(one.path)
    return {one.path: folder.infos[one.path]}


def _matches(one: _Alternative, listed: _Listed) -> Mapping[str, Info]:
    if one.is_deep:
        with explained(one.url):
            act = partial(call, one.fs, "glob", one.path, detail=True, size=PATIENCE)
            hits: Mapping[str, Info] = retried(act)
        return {path: info for path, info in hits.items() if info["type"] != "directory"}
    pattern = re.compile(glob_translate(one.path))
    folder = listed[one.fs, one.folder]
    start = posixpath.join(one.folder, one.stem)
    return {path: folder.infos[path] for path in folder.beginning(start) if pattern.match(path)}
