"""Small pictures, frames and waveforms. What comes in has been decoded for trial before."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from pipelines.decode import AudioConfig
from pipelines.decode.audio import audio_stream, decode_window
from pipelines.decode.errors import SampleError, reading
from pipelines.decode.exif import upright
from pipelines.decode.frames import Frames
from pipelines.decode.image import check_pixels
from pipelines.decode.media import interval, opened
from pipelines.decode.video import MAX_FRAMES, quarter_turns, shown
from pipelines.inspection.headers import FORMATS, film_stream, picture_header

if TYPE_CHECKING:
    from av.container import InputContainer

FRAMES = 5
BARS = 160  # of a waveform
HEARD = 30.0  # seconds of a waveform at most: what follows is not decoded
_SIDE = 360  # pixels of the longer side: twice what a page shows, for dense screens
_FRAME_SIDE = 240
_EXACT = 96  # pixels up to which a picture is kept without loss
_RATE = 16_000
_SHORTEST = 0.1  # seconds


@dataclass(frozen=True)
class Thumbnail:
    """A small picture.

    Attributes:
        data: JPEG or PNG bytes, written here.
        width: In pixels.
        height: In pixels.
        full: Width and height of what it shows.
        seconds: Of a frame: its time since the beginning.
    """

    data: bytes
    width: int
    height: int
    full: tuple[int, int]
    seconds: float | None = None


@dataclass(frozen=True)
class Wave:
    """A waveform.

    Attributes:
        peaks: Loudest sample of each of ``BARS`` parts, in [0, 1].
        heard: Seconds that it shows, from the beginning.
        seconds: Length of the sound.
    """

    peaks: list[float]
    heard: float
    seconds: float


def picture_thumbnail(data: bytes) -> Thumbnail:
    """Make a picture small: upright, alpha over white, its aspect ratio kept.

    Raises:
        SampleError: It cannot be decoded.
    """
    header = picture_header(data)
    with reading("picture"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged metadata; large sizes have a bound below
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        check_pixels(*image.size)
        full = (header.width, header.height) if header else image.size
        image.draft("RGB", (_SIDE, _SIDE))
        return _small(_flat(upright(image)), _SIDE, full)


def film_frames(data: bytes) -> list[Thumbnail]:
    """Take frames at equal distances from a video; those that cannot be decoded are left out.

    Raises:
        SampleError: It is no video.
    """
    with reading("video"), opened(data) as container:
        stream = film_stream(container)
        stream.thread_count = 1
        # Frames must not grow beyond what was checked; a codec rounds sizes up.
        most = 2 * stream.width * stream.height + (1 << 16)
        stream.codec_context.options = {"max_pixels": str(most)}
        first, end = interval(container, stream)
        times = [first + (end - first) * (2 * n + 1) / (2 * FRAMES) for n in range(FRAMES)]
        return list(_frames(container, stream, first, times))


def wave(data: bytes) -> Wave | None:
    """Draw the beginning of a sound; None where there is none that can be decoded.

    Raises:
        SampleError: It is neither sound nor video.
    """
    with reading("audio"), opened(data) as container:
        stream = audio_stream(container)
        if stream is None:
            return None
        first, end = interval(container, stream)
        heard = max(_SHORTEST, min(HEARD, end - first))
        config = AudioConfig(rate=_RATE, seconds=heard, sampling="start")
        samples = np.empty(config.samples, np.float32)
        try:
            decode_window(container, config, 0, None, samples)
        except SampleError:
            return None
        parts = np.array_split(np.abs(samples), BARS)
        return Wave([float(part.max(initial=0.0)) for part in parts], heard, end - first)


def _frames(
    container: InputContainer, stream: Any, first: float, times: list[float]
) -> Iterator[Thumbnail]:
    before = None
    for wanted in times:
        try:
            frames = Frames(container, stream, wanted, first, MAX_FRAMES)
            time, frame = next(shown(frames, [wanted]))
        except SampleError:  # the rest may be damaged, or too far from a key frame
            continue
        if time != before:
            yield _frame(frame, float(stream.sample_aspect_ratio or 1), time - first)
        before = time


def _frame(frame: Any, aspect: float, seconds: float) -> Thumbnail:
    width = round(frame.width * aspect) if 1 / 16 <= aspect <= 16 else frame.width
    image = Image.fromarray(frame.to_ndarray(format="rgb24", threads=1))
    image.thumbnail((2 * _FRAME_SIDE, 2 * _FRAME_SIDE))
    scale = min(1.0, _FRAME_SIDE / max(width, frame.height))
    image = image.resize((max(1, round(width * scale)), max(1, round(frame.height * scale))))
    turns = quarter_turns(frame)
    full = (width, frame.height) if turns % 2 == 0 else (frame.height, width)
    return _small(image.rotate(90 * turns, expand=True), _FRAME_SIDE, full, seconds)


def _flat(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # 16-bit grey: convert() would clip, not scale
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _small(
    image: Image.Image, side: int, full: tuple[int, int], seconds: float | None = None
) -> Thumbnail:
    image.thumbnail((side, side))
    sink = io.BytesIO()
    if max(image.size) <= _EXACT:
        image.save(sink, "PNG")
    else:
        image.save(sink, "JPEG", quality=80)
    return Thumbnail(sink.getvalue(), image.width, image.height, full, seconds)
