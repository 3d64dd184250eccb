"""Byte ranges of one file: many in flight, and only what failed is asked for again."""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import fsspec.asyn

from pipelines.core import StorageError
from pipelines.shards.storage_faults import code_of, explained, passing, pauses, retried, told
from pipelines.shards.storage_places import IN_FLIGHT, is_local, locate, timeout

PIECE = 8 << 20  # a broken connection costs at most so many bytes
_PREAD = 1 << 30  # Linux reads at most 2 GiB at once
_BEYOND = ("InvalidRange", "416")

Span = tuple[int, int]

_gates: weakref.WeakKeyDictionary[Any, asyncio.Semaphore] = weakref.WeakKeyDictionary()


def read_ranges(url: str, ranges: Sequence[Span]) -> list[bytes]:
    """Read byte ranges of one file, several in flight where the filesystem can.

    Long ranges are read in pieces, and only pieces that failed are asked for
    again. Each request has bounded time where the filesystem is asynchronous.

    Args:
        url: The file.
        ranges: (start, stop) of each range, in bytes.

    Raises:
        StorageError: A range could not be read whole after several tries.
    """
    fs, path = locate(url)
    if is_local(fs):
        with explained(url):
            return retried(lambda: _read_local(url, path, ranges))
    pieces = [(place, piece) for place, span in enumerate(ranges) for piece in _cut(*span)]
    parts = _read_remote(url, fs, path, [piece for _, piece in pieces])
    found = [b""] * len(ranges)
    for place, group in groupby(range(len(pieces)), key=lambda number: pieces[number][0]):
        own = [parts[number] for number in group]
        found[place] = own[0] if len(own) == 1 else b"".join(own)
    return found


def _cut(start: int, stop: int) -> Iterator[Span]:
    """Pieces of a range; none of an empty one, to which S3 answers with the whole file."""
    return ((at, min(at + PIECE, stop)) for at in range(start, stop, PIECE))


def _read_local(url: str, path: str, ranges: Sequence[Span]) -> list[bytes]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return [_pread(url, descriptor, start, stop) for start, stop in ranges]
    finally:
        os.close(descriptor)


def _pread(url: str, descriptor: int, start: int, stop: int) -> bytes:
    data = os.pread(descriptor, min(max(0, stop - start), _PREAD), start)
    while len(data) < stop - start:
        more = os.pread(descriptor, min(stop - start - len(data), _PREAD), start + len(data))
        if not more:
            raise _shorter(url)
        data += more
    return data


def _read_remote(url: str, fs: Any, path: str, spans: Sequence[Span]) -> list[bytes]:
    """Read all spans, in rounds: each asks only for what the last one did not bring."""
    found: dict[int, bytes] = {}
    waits = pauses()
    while missing := [number for number in range(len(spans)) if number not in found]:
        faults: list[Exception] = []
        answers = _ask(fs, path, [spans[number] for number in missing])
        for number, answer in zip(missing, answers, strict=True):
            start, stop = spans[number]
            if isinstance(answer, Exception):
                faults.append(_shorter(url) if code_of(answer) in _BEYOND else answer)
            elif len(answer) == stop - start:
                found[number] = answer
            else:
                faults.append(_CutShort())
        _wait_or_raise(url, faults, waits)
    return [found[number] for number in range(len(spans))]


class _CutShort(OSError):
    """Fewer bytes came than were asked for."""


def _wait_or_raise(url: str, faults: Sequence[Exception], waits: Iterator[float]) -> None:
    """Wait before the next round; raise what does not pass, or what the last round brought."""
    if not faults:
        return
    lasting = next((fault for fault in faults if not passing(fault)), None)
    pause = None if lasting else next(waits, None)
    if pause is not None:
        time.sleep(pause)
        return
    with explained(url):
        fault = lasting or faults[0]
        raise _shorter(url) if isinstance(fault, _CutShort) else fault


def _shorter(url: str) -> StorageError:
    return told(url, "shorter than its index says; re-index it")


def _ask(fs: Any, path: str, spans: Sequence[Span]) -> Sequence[bytes | Exception]:
    """One round of requests: the bytes of each span, or what went wrong."""
    if fs.async_impl:
        answers: Sequence[bytes | Exception] = fsspec.asyn.sync(fs.loop, _ask_all, fs, path, spans)
        return answers
    starts, stops = [start for start, _ in spans], [stop for _, stop in spans]
    try:
        parts: Sequence[bytes | Exception] = fs.cat_ranges(
            [path] * len(spans), starts, stops, on_error="return"
        )
    except Exception as error:
        return [error] * len(spans)
    return parts


async def _ask_all(fs: Any, path: str, spans: Sequence[Span]) -> list[bytes | Exception]:
    gate = _gates.setdefault(fs, asyncio.Semaphore(IN_FLIGHT))

    async def ask(start: int, stop: int) -> bytes | Exception:
        async with gate:  # before the clock starts: waiting for one's turn is no stall
            try:
                request = fs._cat_file(path, start=start, end=stop)
                data: bytes = await asyncio.wait_for(request, timeout(stop - start))
            except Exception as error:
                return error
            return data

    return await asyncio.gather(*(ask(start, stop) for start, stop in spans))
