"""Any fsspec location: listing, range reads with retries, writes that are whole or absent."""

from __future__ import annotations

import errno
import os
import posixpath
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pipelines.core import StorageError
from pipelines.shards import storage_s3
from pipelines.shards.storage_faults import (
    RETRIES,
    RefusedError,
    call,
    explained,
    pauses,
    persist,
    persisting,
    retried,
    told,
)
from pipelines.shards.storage_listing import (
    changed,
    entries,
    expand,
    listing,
    stamp,
    stamp_of,
    stamps,
)
from pipelines.shards.storage_places import (
    SHIPPED,
    is_local,
    is_s3,
    join,
    locate,
    resolve,
    timeout,
)
from pipelines.shards.storage_ranges import PIECE, read_ranges
from pipelines.shards.storage_secrets import redact, refuse_secrets
from pipelines.shards.storage_stream import RangeStream, SeekableStream

__all__ = [
    "RETRIES",
    "SHIPPED",
    "RefusedError",
    "StorageError",
    "changed",
    "check_writable",
    "exists",
    "expand",
    "explained",
    "is_local",
    "join",
    "listing",
    "locate",
    "move_in",
    "names",
    "open_read",
    "persist",
    "persisting",
    "read_bytes",
    "read_ranges",
    "read_tail",
    "read_text",
    "redact",
    "refuse_secrets",
    "remove",
    "remove_folder",
    "replace",
    "resolve",
    "stamp",
    "stamps",
    "timeout",
    "write_atomic",
    "write_text",
]


def exists(url: str) -> bool:
    """Whether something is there."""
    fs, path = locate(url)
    with explained(url):
        try:
            retried(lambda: call(fs, "info", path))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True


def names(url: str) -> list[str]:
    """Names in a folder, sorted; empty where there is no folder."""
    listed = {path.rstrip("/") for path in entries(url, detail=False)}
    paths = listed - {locate(url)[1]}  # a folder may be an object too
    return sorted(posixpath.basename(path) for path in paths)


def open_read(url: str, hint: bool = True) -> IO[bytes]:
    """Open for reading in order.

    Args:
        url: The file.
        hint: As in ``explained``.

    Raises:
        StorageError: It is missing or refused; also while reading, if it
            cannot be read on after several tries or was changed meanwhile.
    """
    fs, path = locate(url)
    with explained(url, hint):
        if is_local(fs):
            return retried(lambda: Path(path).open("rb"))
        return RangeStream.open(url, fs, path)


def open_anywhere(url: str) -> IO[bytes]:
    """Open for reading at any place.

    Raises:
        StorageError: It is missing or refused; also while reading, if it
            cannot be read on after several tries.
    """
    fs, path = locate(url)
    with explained(url):
        if is_local(fs):
            return retried(lambda: Path(path).open("rb"))
        return SeekableStream.open(url, fs, path)


def read_bytes(url: str) -> bytes:
    """Read a whole file."""
    fs, path = locate(url)
    with explained(url):
        if is_local(fs):
            return retried(Path(path).read_bytes)
        for pause in pauses():
            data = _read_whole(url, fs, path)
            if data is not None:
                return data
            time.sleep(pause)
    raise told(url, "changed while it was read; run again")


def _read_whole(url: str, fs: Any, path: str) -> bytes | None:
    """One state of an object; None where another process replaced it meanwhile."""
    info = retried(lambda: call(fs, "info", path))
    size = info["size"]
    if info["type"] == "directory":
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if size is None or 0 < size <= PIECE:
        # From byte 0: S3's client would ask for the size again to read without a range.
        data: bytes = retried(lambda: call(fs, "cat_file", path, start=0, size=size or PIECE))
        return data if size in (None, len(data)) else None
    (data,) = read_ranges(url, [(0, size)])
    same = stamp_of(retried(lambda: call(fs, "info", path))) == stamp_of(info)
    return data if same else None


class NotTextError(StorageError, ValueError):
    """A file that is no text: a ``ValueError`` too, as it is for whoever expects damage."""


def read_text(url: str) -> str:
    """Read a whole UTF-8 file.

    Raises:
        NotTextError: It holds something else.
    """
    try:
        return read_bytes(url).decode("utf-8")
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 text (byte {error.start}); save it as UTF-8, or give another file"
        raise told(url, reason, NotTextError) from None


def read_tail(url: str, count: int) -> bytes:
    """Read at most the last ``count`` bytes of a file."""
    fs, path = locate(url)
    with explained(url):
        size = retried(lambda: call(fs, "info", path))["size"]
        if size == 0 or count == 0:
            return b""
        if size is None:
            return read_bytes(url)[-count:]
        span = {"start": max(0, size - count), "end": size}
        return bytes(retried(lambda: call(fs, "cat_file", path, size=count, **span)))


def remove(url: str) -> None:
    """Remove a file; one that is not there is no error."""
    fs, path = locate(url)
    with explained(url):
        try:
            retried(lambda: call(fs, "rm_file", path))
        except FileNotFoundError:
            return


def remove_folder(url: str) -> None:
    """Remove a folder and all that is in it; one that is not there is no error."""
    fs, path = locate(url)
    with explained(url):
        try:
            if is_s3(fs):
                storage_s3.remove_all(fs, path)
            else:
                retried(lambda: call(fs, "rm", path, recursive=True))
        except FileNotFoundError:
            return


def remove_unfinished(url: str) -> None:
    """Remove what uploads into a folder left whose process was killed; only S3 keeps any of it.

    Raises:
        StorageError: The store refuses.
    """
    fs, path = locate(url)
    if is_s3(fs):
        with explained(url):
            storage_s3.abort_uploads(fs, path)


def write_atomic(url: str, data: bytes) -> None:
    """Write a file so that a reader sees all of it or none of it.

    Raises:
        StorageError: The location is full or refused; nothing is left behind.
    """
    fs, path = locate(url)
    with explained(url):
        if is_local(fs):
            with _partial(Path(path)) as partial, partial.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        elif is_s3(fs) and len(data) > storage_s3.PART:
            storage_s3.upload(fs, path, data)
        else:
            retried(lambda: call(fs, "pipe_file", path, data, size=len(data)))


def write_text(url: str, text: str) -> None:
    """Write a UTF-8 file, whole or not at all."""
    write_atomic(url, text.encode("utf-8"))


def check_writable(folder: str) -> None:
    """Write a file to a folder and remove it.

    Raises:
        StorageError: That is refused; the message says why.
    """
    probe = join(folder, ".writable")
    write_atomic(probe, b"")
    remove(probe)


def move_in(source: Path, url: str) -> None:
    """Move a local file to a URL, whole or not at all.

    Raises:
        StorageError: The location is full or refused.
    """
    fs, path = locate(url)
    with explained(url):
        if is_local(fs):
            with source.open("rb") as stream:
                os.fsync(stream.fileno())
            with _partial(Path(path)) as partial:
                shutil.move(source, partial)  # a rename where both are on one disk
            return
        size = source.stat().st_size
        if is_s3(fs) and size > storage_s3.PART:
            storage_s3.upload(fs, path, source)
        else:
            retried(lambda: call(fs, "put_file", str(source), path, size=size))
        source.unlink()


def replace(source: str, url: str) -> None:
    """Put a file in the place of another one of the same filesystem, if there is one.

    On a disk it is gone from where it was; elsewhere it stays there as well,
    so that nothing is lost whatever happens on the way.

    Raises:
        StorageError: The location is full or refused.
    """
    fs, path = locate(source)
    target = locate(url)[1]
    with explained(url):
        if is_local(fs):
            retried(lambda: Path(path).replace(target))
            return
        size = retried(lambda: call(fs, "info", path))["size"]
        try:
            retried(lambda: call(fs, "cp_file", path, target, size=size or 0))
        except NotImplementedError:  # SFTP and the like: by way of this machine
            with tempfile.TemporaryDirectory(prefix="eagleray-") as folder:
                held = str(Path(folder) / "file")
                retried(lambda: call(fs, "get_file", path, held, size=size or 0))
                retried(lambda: call(fs, "put_file", held, target, size=size or 0))


@contextmanager
def _partial(target: Path) -> Iterator[Path]:
    """A hidden file that takes the target's place once it is complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
