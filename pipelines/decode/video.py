"""Video: a few frames at a sampled time and rate, without decoding the whole file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pipelines.core import Config
from pipelines.decode.errors import SampleError
from pipelines.decode.frames import Frames
from pipelines.decode.image import check_pixels
from pipelines.decode.media import Sampling, check_decoder, interval, settle, share
from pipelines.decode.resize import square

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

EXTENSIONS = ("mp4", "avi", "webm", "mkv", "mov", "mpg", "m4v")
MAX_FRAMES = 3000  # decoded for one clip: from the key frame before it to its end
MAX_WORK = 8_000_000_000  # pixels decoded for one clip
_STREAM = 2048  # of random numbers
_ROUNDING = 1e-3  # seconds: a clock of many containers

Timed = tuple[float, Any]


class VideoConfig(Config):
    """A clip.

    Attributes:
        frames: How many frames.
        rate: How many of them a second.
        size: Side of the square frames, in pixels.
        sampling: Where in the video the clip lies; random follows the sample's key.
    """

    frames: int = Field(default=8, ge=1, le=1024)
    rate: float = Field(default=4.0, gt=0, le=1000)
    size: int = Field(default=112, ge=1)
    sampling: Sampling = "random"


def decode_clip(
    container: InputContainer,
    config: VideoConfig,
    key: int,
    clip: npt.NDArray[np.uint8],
    times: npt.NDArray[np.float32],
) -> float:
    """Decode a clip.

    Frame i is the one that the video shows i / rate seconds after the clip's
    start: the last whose time is not later. A video shorter than the clip
    repeats its last frame, and its time with it. Rotation is applied, flips
    are not; pixels that are not square are made so.

    Args:
        container: An opened file.
        config: Which frames.
        key: 64-bit key of the sample, which decides where a random clip lies.
        clip: Where frames go, RGB. [T, S, S, 3] uint8
        times: Where the times of the frames go, in seconds of the file's clock. [T] float32

    Returns:
        Time of the clip's first frame, in seconds.

    Raises:
        ValueError: No video, too large, or damaged.
    """
    stream = _stream(container)
    bounds = interval(container, stream)
    offsets = [number / config.rate for number in range(config.frames)]
    most = max(1, min(MAX_FRAMES, MAX_WORK // (stream.width * stream.height)))
    delivered: list[float] = []

    def attempt(start: float) -> float:
        frames = Frames(container, stream, start, bounds[0], most)
        delivered[:] = _write(shown(frames, [start + o for o in offsets]), clip, _aspect(stream))
        return frames.end

    settle(bounds, offsets[-1], share(config.sampling, key, _STREAM), attempt)
    times[:] = delivered
    return delivered[0]


def shown(frames: Iterable[Timed], wanted: Sequence[float]) -> Iterator[Timed]:
    """Pick the frames that are shown at some times.

    Args:
        frames: Times and frames, in the order in which they are shown.
        wanted: Ascending times.

    Yields:
        For every wanted time the last frame that is not later, or the first
        frame where all are.

    Raises:
        SampleError: There is no frame.
    """
    # An eighth of what lies between two that are wanted, where they lie closer.
    closest = min((b - a for a, b in pairwise(wanted) if b > a), default=1.0)
    rounding = min(_ROUNDING, closest / 8)
    now: Timed | None = None
    place = 0
    for time, frame in frames:
        while now is not None and time > wanted[place] + rounding:
            yield now
            place += 1
            if place == len(wanted):
                return
        if now is None or time >= now[0]:  # a damaged file's clock may jump back
            now = time, frame
    if now is None:
        raise SampleError("no frame that can be decoded")
    for _ in wanted[place:]:
        yield now


def _stream(container: InputContainer) -> VideoStream:
    from av.stream import Disposition

    cover = Disposition.attached_pic
    stream = next((s for s in container.streams.video if not s.disposition & cover), None)
    if stream is None:
        raise SampleError("no video track")
    check_decoder(stream)
    width, height = stream.width, stream.height
    if width < 1 or height < 1:
        raise SampleError("a video without a size")
    check_pixels(width, height)
    stream.thread_count = 1  # readers are processes, one a core
    stream.thread_type = "NONE"
    # Frames must not grow beyond what was checked; a codec rounds sizes up.
    stream.codec_context.options = {"max_pixels": str(2 * width * height + (1 << 16))}
    return stream


def _aspect(stream: VideoStream) -> float:
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 1 / 16 <= aspect <= 16 else 1.0  # beyond: not a lens but a fault


def _write(frames: Iterable[Timed], clip: npt.NDArray[np.uint8], aspect: float) -> list[float]:
    times: list[float] = []
    for row, (time, frame) in enumerate(frames):
        if times and time == times[-1]:
            clip[row] = clip[row - 1]
        else:
            _picture(frame, clip[row], aspect)
        times.append(time)
    return times


def _picture(frame: VideoFrame, out: npt.NDArray[np.uint8], aspect: float) -> None:
    # Left to itself the library starts a thread for each core, for every frame.
    stored = frame.to_ndarray(format="rgb24", threads=1)
    square(np.asarray(stored, np.uint8), out, aspect)
    turns = quarter_turns(frame)
    if turns:
        out[:] = np.rot90(out, turns).copy()


def quarter_turns(frame: VideoFrame) -> int:
    """How often a frame is to be turned by 90 degrees, anticlockwise; mirrored it stays.

    The library takes what is mirrored from left to right for turned by 180 degrees.
    """
    turns = round(frame.rotation / 90) % 4
    if turns == 2:
        sides: Any = frame.side_data  # which is typed as if it held one other kind only
        matrix = np.frombuffer(bytes(sides["DISPLAYMATRIX"]), np.int32)
        return turns if matrix[4] < 0 else 0
    return turns
