"""Any fsspec location: listing, range reads with retries, writes that are whole or absent."""

from __future__ import annotations

import errno
import os
import posixpath
import random
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any

import fsspec
from braceexpand import braceexpand

from pipelines.core import StorageError, nearest

SHIPPED = "eagleray://"
RETRIES = 4
_CLIENTS = ("aiobotocore", "aiohttp", "botocore", "gcsfs", "google", "s3fs")
# What filesystems call a file's version: S3, GCS and Azure, local, others.
_VERSIONS = ("ETag", "etag", "mtime", "last_modified", "LastModified", "updated", "created")


def resolve(url: str) -> str:
    """Turn ``eagleray://emoji/...`` into the place of the shipped data set; leave others alone."""
    if url.startswith(SHIPPED):
        return str(Path(__file__).parent.parent / "datasets" / url.removeprefix(SHIPPED))
    return url


@cache
def _filesystem(protocol: str) -> Any:
    return fsspec.filesystem(protocol)


def locate(url: str) -> tuple[Any, str]:
    """Return the filesystem of a URL and the path in it.

    Raises:
        StorageError: The protocol is unknown or its package is not installed.
    """
    url = resolve(url)
    protocol = fsspec.core.split_protocol(url)[0] or "file"
    try:
        fs = _filesystem(protocol)
    except (ValueError, ImportError):
        known = [name for name in fsspec.available_protocols() if len(name) > 1]
        raise StorageError(
            f"{url}: unknown protocol '{protocol}'; {nearest(protocol, known)}"
        ) from None
    return fs, fs._strip_protocol(url)


def join(url: str, *parts: str) -> str:
    """Append path parts to a URL."""
    return posixpath.join(url.rstrip("/") if url != "/" else url, *parts)


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn a filesystem's exceptions into one line that says what to do.

    Raises:
        StorageError: The location is missing, full or refused.
    """
    try:
        yield
    except FileNotFoundError:
        raise StorageError(f"{url}: does not exist; {_siblings(url)}") from None
    except PermissionError:
        raise StorageError(f"{url}: access refused; check permissions or credentials") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(f"{url}: the disk is full; free some space and run again") from None
        raise StorageError(f"{url}: {error.strerror or type(error).__name__}") from error
    except Exception as error:  # remote filesystems let some of their clients' own errors through
        if _client(error) not in _CLIENTS:
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise StorageError(f"{url}: {reason}") from None


def _client(error: Exception) -> str:
    return type(error).__module__.partition(".")[0]


def _siblings(url: str) -> str:
    parent, name = posixpath.split(url.rstrip("/"))
    try:
        fs, path = locate(parent or ".")
        names = [posixpath.basename(entry.rstrip("/")) for entry in fs.ls(path, detail=False)]
    except (OSError, StorageError):
        return "its folder does not exist either"
    except Exception as error:
        if _client(error) not in _CLIENTS:
            raise
        return "its folder cannot be listed"
    return nearest(name, names[:1000]) if names else "its folder is empty"


def expand(pattern: str) -> list[str]:
    """List the URLs that a brace and glob pattern names, sorted within each brace alternative.

    Raises:
        StorageError: Nothing matches, or the braces are not balanced.
    """
    urls: list[str] = []
    try:
        alternatives = list(braceexpand(pattern))
    except ValueError:
        raise StorageError(f"{pattern}: its braces do not pair up") from None
    for alternative in alternatives:
        fs, path = locate(alternative)
        with explained(alternative):
            hits = sorted(fs.glob(path)) if any(mark in path for mark in "*?[") else [path]
        urls += [fs.unstrip_protocol(hit) for hit in hits]
    if not urls:
        raise StorageError(f"{pattern}: no file matches; {_siblings(pattern)}")
    return [url.removeprefix("file://") for url in urls]


def exists(url: str) -> bool:
    """Whether something is there."""
    fs, path = locate(url)
    with explained(url):
        return bool(fs.exists(path))


def names(url: str) -> list[str]:
    """Names in a folder, sorted; empty where there is no folder."""
    fs, path = locate(url)
    with explained(url):
        try:
            fs.invalidate_cache(path)
            entries = fs.ls(path, detail=False)
        except FileNotFoundError:
            return []
        return sorted(posixpath.basename(entry.rstrip("/")) for entry in entries)


def stamp(url: str) -> str:
    """Size and version of a file (entity tag or time of change), to see whether it changed."""
    fs, path = locate(url)
    with explained(url):
        info = fs.info(path)
    versions = (info[name] for name in _VERSIONS if info.get(name))
    return f"{info['size']}:{next(versions, '')}"


def open_read(url: str) -> IO[bytes]:
    """Open for reading in order."""
    fs, path = locate(url)
    with explained(url):
        stream: IO[bytes] = fs.open(path, "rb")
        return stream


def read_bytes(url: str) -> bytes:
    """Read a whole file."""
    with explained(url), open_read(url) as stream:
        return stream.read()


def read_text(url: str) -> str:
    """Read a whole UTF-8 file."""
    return read_bytes(url).decode("utf-8")


def read_tail(url: str, count: int) -> bytes:
    """Read at most the last ``count`` bytes of a file."""
    fs, path = locate(url)
    with explained(url):
        return bytes(fs.cat_file(path, start=max(0, int(fs.size(path)) - count)))


def remove(url: str) -> None:
    """Remove a file; one that is not there is no error."""
    fs, path = locate(url)
    with explained(url):
        if fs.exists(path):
            fs.rm_file(path)


def read_ranges(url: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Read byte ranges of one file, several in flight where the filesystem can.

    Args:
        url: The file.
        ranges: (start, stop) of each range, in bytes.

    Raises:
        StorageError: A range could not be read whole after several tries.
    """
    fs, path = locate(url)
    wanted = [(a, b) for a, b in ranges if b > a]  # S3 answers an empty range with the whole file
    starts = [start for start, _ in wanted]
    stops = [stop for _, stop in wanted]
    for attempt in range(RETRIES + 1):
        try:
            parts: list[bytes] = fs.cat_ranges(
                [path] * len(wanted), starts, stops, on_error="raise"
            )
            if all(len(part) == b - a for part, (a, b) in zip(parts, wanted, strict=True)):
                found = iter(parts)
                return [next(found) if b > a else b"" for a, b in ranges]
            fault: Exception = StorageError(f"{url}: shorter than its index says; re-index it")
        except FileNotFoundError:
            with explained(url):
                raise
        except Exception as error:
            if not isinstance(error, OSError) and _client(error) not in _CLIENTS:
                raise
            fault = error
        if attempt < RETRIES:
            time.sleep(0.1 * 2**attempt * (0.5 + random.random()))
    if isinstance(fault, StorageError):
        raise fault
    with explained(url):
        raise fault


def write_atomic(url: str, data: bytes) -> None:
    """Write a file so that a reader sees all of it or none of it.

    Raises:
        StorageError: The location is full or refused; nothing is left behind.
    """
    fs, path = locate(url)
    with explained(url):
        if not is_local(fs):
            fs.pipe_file(path, data)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
        try:
            with partial.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


def write_text(url: str, text: str) -> None:
    """Write a UTF-8 file, whole or not at all."""
    write_atomic(url, text.encode("utf-8"))


def move_in(source: Path, url: str) -> None:
    """Move a local file to a URL, whole or not at all.

    Raises:
        StorageError: The location is full or refused.
    """
    fs, path = locate(url)
    with explained(url):
        if not is_local(fs):
            fs.put_file(str(source), path)
            source.unlink()
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as stream:
            os.fsync(stream.fileno())
        partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
        try:
            shutil.move(source, partial)  # a rename where both are on one disk
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


def is_local(fs: Any) -> bool:
    """Whether a filesystem is this machine's own."""
    protocols = fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,)
    return "file" in protocols
