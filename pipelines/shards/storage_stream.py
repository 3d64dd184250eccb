"""An object read in order, by pieces that are retried."""

from __future__ import annotations

import io
from typing import IO, Any, cast

from pipelines.shards.storage_faults import call, retried, told
from pipelines.shards.storage_listing import stamp, stamp_of
from pipelines.shards.storage_ranges import PIECE, read_ranges

_AHEAD = 4 * PIECE  # so much memory, for as many requests at once
_BUFFER = 1 << 20


def _unsized(url: str, fs: Any, path: str) -> bytes:
    """A whole file, where its server does not say how long it is: where would a range end?"""
    data: bytes = retried(lambda: call(fs, "cat_file", path, start=0, end=_AHEAD, size=_AHEAD))
    if len(data) >= _AHEAD:
        needed = f"as it must from {_AHEAD >> 20} MiB on"
        raise told(url, f"its server does not say how large it is, {needed}; copy it elsewhere")
    return data


class SeekableStream(io.RawIOBase):
    """Reads an object at any place, by ranges that are retried."""

    def __init__(self, url: str, size: int):
        self._url, self._size, self._place = url, size, 0

    @classmethod
    def open(cls, url: str, fs: Any, path: str) -> IO[bytes]:
        """Open an object, buffered."""
        size = retried(lambda: call(fs, "info", path))["size"]
        if size is None:
            return io.BytesIO(_unsized(url, fs, path))
        return cast(IO[bytes], io.BufferedReader(cls(url, int(size)), _BUFFER))

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; returns it, from the start."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with what is here; 0 bytes at the end.

        Raises:
            StorageError: It cannot be read.
        """
        stop = min(self._place + len(buffer), self._size)
        if stop <= self._place:
            return 0
        (data,) = read_ranges(self._url, [(self._place, stop)])
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


class RangeStream(io.RawIOBase):
    """Reads one state of an object: it is an error if it changed before its end was read."""

    def __init__(self, url: str, size: int, stamp: str):
        self._url = url
        self._size = size
        self._stamp = stamp
        self._block = memoryview(b"")
        self._fetched = 0

    @classmethod
    def open(cls, url: str, fs: Any, path: str) -> IO[bytes]:
        """Open an object, buffered."""
        info = retried(lambda: call(fs, "info", path))
        if info["size"] is None:
            return io.BytesIO(_unsized(url, fs, path))
        stream = cls(url, int(info["size"]), stamp_of(info))
        return cast(IO[bytes], io.BufferedReader(stream, _BUFFER))

    def readable(self) -> bool:
        """It is, and neither seekable nor writable."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with what comes next; 0 bytes at the end.

        Raises:
            StorageError: It cannot be read on, or the object was changed.
        """
        if not self._block and self._fetched < self._size:
            self._fetch()
        count = min(len(buffer), len(self._block))
        buffer[:count] = self._block[:count]
        self._block = self._block[count:]
        return count

    def _fetch(self) -> None:
        stop = min(self._fetched + _AHEAD, self._size)
        (data,) = read_ranges(self._url, [(self._fetched, stop)])
        self._block, self._fetched = memoryview(data), stop
        if stop == self._size and stamp(self._url) != self._stamp:
            raise told(self._url, "changed while it was read; run again")
