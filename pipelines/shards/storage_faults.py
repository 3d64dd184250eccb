"""Faults of storage: which ones pass, how they are retried, and how they are told."""

from __future__ import annotations

import errno
import itertools
import os
import posixpath
import random
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import fsspec.asyn

from pipelines.core import OutageError, StorageError, nearest
from pipelines.shards.storage_places import is_web, locate, timeout
from pipelines.shards.storage_secrets import redact

T = TypeVar("T")

RETRIES = 7
_LONGEST = 8.0  # seconds between two tries
_persistence = 0.0
_here: ContextVar[float] = ContextVar("persistence", default=0.0)  # a new thread has the default
PATIENCE = 256 << 20  # a listing has many pages: it may take as long as so many bytes
_CLIENTS = (
    *("adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google"),
    *("httpx", "httpx2", "s3fs"),
)
_WEB = ("http://", "https://")  # servers that show no folder say that there is none
_LASTING = {
    errno.EACCES, errno.EDQUOT, errno.EEXIST, errno.EINVAL, errno.EISDIR, errno.ENAMETOOLONG,
    errno.ENOENT, errno.ENOSPC, errno.ENOSYS, errno.ENOTDIR, errno.EPERM, errno.EREMCHG,
    errno.EROFS,
}  # fmt: skip
_LASTING_KINDS = (
    FileNotFoundError,
    PermissionError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
)
# Codes that S3's client gives as EINVAL though the request was damaged on its way.
_DAMAGED = ("BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch")
_LASTING_NAMES = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "ParamValidationError",
    "NoRegionError",
    "InvalidRegionError",
    "ClientAuthenticationError",
    "DefaultCredentialsError",
)
# Answers of a web server that another try does not change.
_LASTING_ANSWERS = {400, 401, 403, 404, 405, 410, 411, 414, 416, 501}


class RefusedError(StorageError):
    """A location that may not be read or written; some stores say so of what is not there."""


def code_of(error: BaseException) -> str:
    """The object store's own code of an error, such as ``InvalidRange``; empty without one."""
    response = getattr(error.__cause__ or error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def passing(error: Exception) -> bool:
    """Whether an error may be gone at the next try: a broken connection, a busy server."""
    if isinstance(error, OSError):
        lasting = isinstance(error, _LASTING_KINDS) or error.errno in _LASTING
        return not lasting or code_of(error) in _DAMAGED
    lasting = type(error).__name__ in _LASTING_NAMES
    lasting |= getattr(error, "status", None) in _LASTING_ANSWERS
    return _client(error) in _CLIENTS and not lasting


def pauses() -> Iterator[float]:
    """Seconds to wait before each further try: doubling, with jitter, as often as is wanted."""
    waited, wanted = 0.0, max(_persistence, _here.get())
    for attempt in itertools.count():
        if attempt >= RETRIES and waited >= wanted:
            return
        pause = min(_LONGEST, 0.075 * 2 ** min(attempt, 16)) * (0.5 + random.random())
        waited += pause
        yield pause


def persist(seconds: float) -> None:
    """Have this process try for as long as an object store may be down, instead of some seconds.

    Whoever mistyped an address wants to be told at once, a run on many machines does not.

    Args:
        seconds: To wait at least between tries, all together, before a fault is told.
    """
    global _persistence
    _persistence = seconds


@contextmanager
def persisting(seconds: float) -> Iterator[None]:
    """Have this thread, while the body runs, try for so long; others of the process do not.

    Args:
        seconds: As in ``persist``.
    """
    token = _here.set(seconds)
    try:
        yield
    finally:
        _here.reset(token)


def retried(act: Callable[[], T]) -> T:
    """Do it, again after faults that may pass; the last one is raised."""
    for pause in pauses():
        try:
            return act()
        except Exception as error:
            if not passing(error):
                raise
        time.sleep(pause)
    return act()


def call(fs: Any, name: str, *args: Any, size: int = 0, **kwargs: Any) -> Any:
    """Do one operation of a filesystem, in bounded time where its client is asynchronous.

    Args:
        fs: The filesystem.
        name: Its method.
        *args: For the method.
        size: Bytes that it moves.
        **kwargs: For the method.

    Raises:
        TimeoutError: There was no answer in time.
    """
    if not fs.async_impl:
        return getattr(fs, name)(*args, **kwargs)
    act = getattr(fs, f"_{name}")
    try:
        return fsspec.asyn.sync(fs.loop, act, *args, timeout=timeout(size), **kwargs)
    except FileNotFoundError as error:
        # The web's client says so of a server that is busy or does not answer, too.
        cause = error.__cause__
        if is_web(fs) and isinstance(cause, Exception) and passing(cause):
            raise cause from None
        raise


@contextmanager
def explained(url: str, hint: bool = True) -> Iterator[None]:
    """Turn a filesystem's exceptions into one line that says what to do, without credentials.

    Args:
        url: The location.
        hint: Whether a missing file's folder is looked at for what has a name like it.

    Raises:
        StorageError: The location is missing, full or refused.
    """
    try:
        yield
    except FileNotFoundError:
        raise told(url, f"does not exist{f'; {siblings(url)}' if hint else ''}") from None
    except PermissionError:
        raise told(url, "access refused; check permissions or credentials", RefusedError) from None
    except OSError as error:
        raise told(url, _reason(error), _kind(error)) from None
    except Exception as error:  # remote filesystems let some of their clients' own errors through
        if _client(error) not in _CLIENTS:
            raise
        raise told(url, str(error) or type(error).__name__, _kind(error)) from None


@contextmanager
def temporary(file: str | os.PathLike[str]) -> Iterator[None]:
    """As ``explained``, of a temporary file: another disk may have the room.

    Raises:
        StorageError: Its disk is full or refused.
    """
    try:
        with explained(str(file), hint=False):
            yield
    except StorageError as error:
        raise type(error)(f"{error}; TMPDIR names another place for temporary files") from None


def _kind(error: Exception) -> type[StorageError]:
    return OutageError if passing(error) else StorageError


def told(url: str, reason: str, kind: type[StorageError] = StorageError) -> StorageError:
    """An error of one line about a location, without credentials."""
    return kind(redact(f"{url}: {(reason.splitlines() or [''])[0]}"))


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space and run again"
    if isinstance(error, IsADirectoryError):
        return "a folder; give a file, or a pattern of files such as '*.tar' in it"
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "what should be its folder is a file"
    if isinstance(error, TimeoutError) and not error.strerror:
        return f"no answer within {timeout():g} s; check the network and the endpoint"
    return error.strerror or type(error).__name__


def _client(error: Exception) -> str:
    return type(error).__module__.partition(".")[0]


def siblings(url: str) -> str:
    """Name what is beside a missing file: the rest of an error message."""
    unlisted = "its folder cannot be listed"
    parent, name = posixpath.split(url.rstrip("/"))
    try:
        fs, path = locate(parent or ".")
        entries = call(fs, "ls", path, detail=False, size=PATIENCE)
    except (FileNotFoundError, NotADirectoryError, StorageError):
        return unlisted if url.startswith(_WEB) else "its folder does not exist either"
    except Exception as error:
        if not isinstance(error, OSError) and _client(error) not in _CLIENTS:
            raise
        return unlisted
    names = sorted(posixpath.basename(entry.rstrip("/")) for entry in entries)
    start = max(0, bisect_left(names, name) - 500)  # a folder may hold a million
    return nearest(name, names[start : start + 1000]) if names else "its folder is empty"
