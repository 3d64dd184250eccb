"""Audio and video files: opened safely, and where in them a window lies."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipelines.core.permutation import mix
from pipelines.decode.errors import SampleError
from pipelines.decode.image import MAX_PIXELS

if TYPE_CHECKING:  # PyAV loads FFmpeg, which readers of pictures do without
    from av.container import InputContainer
    from av.stream import Stream

Sampling = Literal["random", "centre", "start"]

# Names of FFmpeg's demuxers. Its playlist formats would open the files that a member names.
_FORMATS = "mov,matroska,avi,mpeg,mpegts,wav,flac,mp3,ogg"
SPARSE = "mpeg"  # program streams: few of their packets have a time, and no header a length
_MAX_PACKETS = 1_000_000
_SLACK = 1e-3  # seconds by which the end of a stream may miss what its header says
_MASK = (1 << 64) - 1


@contextmanager
def opened(data: bytes) -> Iterator[InputContainer]:
    """Open a file from memory; it can name no other file.

    Raises:
        FFmpegError: Not such a file.
    """
    import av

    av.logging.set_level(None)  # FFmpeg tells stderr about every damaged packet
    container = av.open(
        io.BytesIO(data),
        "r",
        metadata_errors="replace",
        options={"max_pixels": str(MAX_PIXELS)},  # of what FFmpeg decodes to know the streams
        container_options={
            "format_whitelist": _FORMATS,
            "protocol_whitelist": "none",
            # FFmpeg looks for other codecs in the samples of a WAV, for longer than it decodes.
            "max_probe_packets": "8",
        },
    )
    with container:
        yield container


def uniform(key: int, stream: int) -> float:
    """Number in [0, 1) of a 64-bit key; the same as ``randomness.uniform`` gives first."""
    offset = mix(np.array([stream << 32], np.uint64))
    bits = mix(np.array([key & _MASK], np.uint64) ^ offset)
    return int(bits[0] >> np.uint64(40)) / (1 << 24)


def interval(container: InputContainer, stream: Stream) -> tuple[float, float]:
    """Return the start and end of a stream, in seconds of its own clock.

    Without decoding; what no header says is counted from the packets.

    Raises:
        SampleError: A stream without a clock.
    """
    if not stream.time_base:
        raise SampleError("a stream without a clock")
    unit, start = float(stream.time_base), beginning(stream)
    told = container.format.name != SPARSE
    if told and stream.duration and stream.duration > 0:
        end = start + stream.duration * unit
    elif told and container.duration and container.duration > 0:
        end = ((container.start_time or 0) + container.duration) / 1e6
    else:
        timed = (packet for packet in packets(container, stream) if packet.pts is not None)
        end = max(((p.pts + (p.duration or 0)) * unit for p in timed), default=start)
    return start, max(start, end)


def beginning(stream: Stream) -> float:
    """Where a stream begins, in seconds of its own clock."""
    return (stream.start_time or 0) * float(stream.time_base or 0)


def check_decoder(stream: Stream) -> None:
    """Refuse a stream that FFmpeg can find and not decode.

    Raises:
        SampleError: Its codec is unknown.
    """
    if getattr(stream, "codec_context", None) is None:
        raise SampleError("a codec that cannot be decoded")


def settle(
    bounds: tuple[float, float],
    span: float,
    share: float,
    attempt: Callable[[float], float],
) -> float:
    """Place a window in a stream, once more where the stream turns out shorter than it says.

    Args:
        bounds: Start and end of the stream, in seconds.
        span: Length of the window, in seconds.
        share: Where in the room that is left, from 0 to 1.
        attempt: Decodes from a start; returns where the stream ended, infinity
            where it did not come to its end.

    Returns:
        The start.
    """
    first, end = bounds
    start = first + share * max(0.0, end - first - span)
    end = attempt(start)
    if start > first and end + _SLACK < start + span:
        start = first + share * max(0.0, end - first - span)
        attempt(start)
    return start


def share(sampling: Sampling, key: int, stream: int) -> float:
    """Where in the room that is left a window lies, from 0 to 1."""
    return uniform(key, stream) if sampling == "random" else {"start": 0.0, "centre": 0.5}[sampling]


def packets(container: InputContainer, stream: Any) -> Iterator[Any]:
    """Read a stream's packets from where its file stands.

    Raises:
        SampleError: Too many for any real file.
    """
    for count, packet in enumerate(container.demux(stream)):
        if count == _MAX_PACKETS:
            raise SampleError(f"more than {_MAX_PACKETS} packets")
        yield packet
