"""The frames of a stream from a time on, decoded within bounds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING, Any

from pipelines.decode.errors import SampleError
from pipelines.decode.media import SPARSE, packets

if TYPE_CHECKING:
    from av.container import InputContainer


class Frames:
    """The frames of a stream from a time on, decoded as they are iterated over.

    A file's index counts decoding times, and pictures are shown later than
    they are decoded, so that a seek may come too late; then it is done again
    from further back.

    Args:
        container: The file.
        stream: One of its streams, video or audio.
        start: Time of which the frame is wanted, in seconds.
        first: Start of the stream, in seconds.
        most: How many frames may be decoded.

    Attributes:
        end: When the stream ended, in seconds; infinity until it has.
    """

    def __init__(
        self, container: InputContainer, stream: Any, start: float, first: float, most: int
    ):
        self.end = math.inf
        self._container, self._stream = container, stream
        self._start, self._first, self._most = start, first, most

    def __iter__(self) -> Iterator[tuple[float, Any]]:
        """Iterate in the order in which they are shown.

        Yields:
            Times in seconds and frames; the first at or before the start if
            the stream has such a one.

        Raises:
            SampleError: More frames than may be decoded.
        """
        back = 0.0
        while True:
            target = max(self._start - back, self._first)
            whole = target <= self._first
            self.end = math.inf  # a seek that came too late has told another one
            frames = self._seek(target, whole)
            head = next(frames, None)
            if whole or (head is not None and head[0] <= self._start):
                break
            back = max(4.0 * back, 1.0)
        if head is not None:
            yield head
        yield from frames

    def _seek(self, target: float, whole: bool) -> Iterator[tuple[float, Any]]:
        from av import FFmpegError

        if whole or self._container.format.name == SPARSE:
            skip = 0 if whole else self._key_packet(target)
            self._rewind()
            return self._timed(self._first if whole else None, skip)
        try:
            self._container.seek(math.floor(target / self._stream.time_base), stream=self._stream)
        except FFmpegError:  # no index: as if it came too late
            return iter(())
        return self._timed(None, 0)

    def _key_packet(self, target: float) -> int:
        """Number of the last key packet at or before a time, counted from the beginning.

        Where few packets have a time, those of the others follow from the
        packets before them, which a seek would skip.
        """
        self._rewind()
        key = 0
        for number, packet in enumerate(packets(self._container, self._stream)):
            time = -math.inf if packet.pts is None else float(packet.pts * self._stream.time_base)
            if packet.is_keyframe and time <= target:
                key = number
            if time > target + 1.0:  # packets are not in the order of their times
                break
        return key

    def _rewind(self) -> None:
        from av import FFmpegError

        try:  # a second early, which no rounding turns into the second frame
            before = math.floor((self._first - 1.0) / self._stream.time_base)
            self._container.seek(before, stream=self._stream)
        except FFmpegError:  # AVI knows no time before its own zero
            self._container.seek(0, stream=self._stream)

    def _timed(self, known: float | None, skip: int) -> Iterator[tuple[float, Any]]:
        """Frames with times; one without follows the frame before it."""
        video = self._stream.type == "video"
        each = float(1 / self._stream.average_rate) if video and self._stream.average_rate else 0.0
        rest = islice(packets(self._container, self._stream), skip, None)
        decoded = (frame for packet in rest for frame in packet.decode())
        clock = _Clock()
        for count, frame in enumerate(decoded):
            if count == self._most:
                raise SampleError(f"more than {self._most} frames to decode for one window")
            ticks = clock.ticks(frame)
            time = known if ticks is None else _seconds(ticks, frame.time_base)
            if time is None or frame.is_corrupt:  # as the first after a seek may be
                continue
            yield time, frame
            known = time + (each if video else frame.samples / frame.sample_rate)
        self.end = self._first if known is None else known


def _seconds(ticks: int, unit: Fraction) -> float:
    return ticks * unit.numerator / unit.denominator  # a product of fractions takes ten times that


class _Clock:
    """When frames are shown, for files whose packets have wrong times, too.

    Frames come in the order in which they are shown. Where their presentation
    times go back more often than the decoding times do (as where a muxer wrote
    those for these), the decoding times are right: FFmpeg's players do the same.
    """

    def __init__(self) -> None:
        self._last = {"pts": -math.inf, "dts": -math.inf}
        self._faults = {"pts": 0, "dts": 0}

    def ticks(self, frame: Any) -> int | None:
        """Time of the next frame, in its time base; None if it has none."""
        for kind in self._last:
            if (ticks := getattr(frame, kind)) is not None:
                self._faults[kind] += ticks <= self._last[kind]
                self._last[kind] = ticks
        shown: int | None = frame.pts
        decoded: int | None = frame.dts
        wrong = shown is None or self._faults["pts"] > self._faults["dts"]
        return decoded if wrong else shown
