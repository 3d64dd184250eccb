"""What the headers of pictures, films and sounds say; nothing is decoded beyond them."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from pipelines.decode.audio import audio_stream
from pipelines.decode.exif import SIDEWAYS, orientation
from pipelines.decode.media import opened

if TYPE_CHECKING:
    from av.container import InputContainer

FORMATS = ("JPEG", "PNG", "WEBP")
_GREY = ("1", "L", "LA", "I", "F")


@dataclass(frozen=True)
class PictureHeader:
    """A picture.

    Attributes:
        format: ``JPEG``, ``PNG`` or ``WEBP``.
        width: In pixels, upright.
        height: In pixels, upright.
        grey: Whether it has no colours.
        alpha: Whether parts of it may be transparent.
        cmyk: Whether its colours are those of print.
        rotated: Whether its EXIF tells to rotate or mirror it.
    """

    format: str
    width: int
    height: int
    grey: bool
    alpha: bool
    cmyk: bool
    rotated: bool


@dataclass(frozen=True)
class SoundHeader:
    """A track of sound; ``seconds`` is None where no header says it."""

    codec: str
    rate: int
    channels: int
    seconds: float | None


@dataclass(frozen=True)
class FilmHeader:
    """A video; ``sound`` is its track, and None where it has none.

    Attributes:
        codec: FFmpeg's name of it.
        width: In pixels, as stored.
        height: In pixels, as stored.
        rate: Frames a second; None where no header says it.
        seconds: Length; None where no header says it.
        sound: Its first track of sound.
    """

    codec: str
    width: int
    height: int
    rate: float | None
    seconds: float | None
    sound: SoundHeader | None


def picture_header(data: bytes) -> PictureHeader | None:
    """Read the header of a picture; None where it has none that can be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata; sizes are only looked at
            return _picture(Image.open(io.BytesIO(data), formats=FORMATS))
    except Exception:  # damaged bytes raise anything: struct.error, OverflowError, ...
        return None


def film_header(data: bytes) -> FilmHeader | None:
    """Read the header of a video; None where it has none that can be read."""
    try:
        with opened(data) as container:
            return _film(container)
    except Exception:
        return None


def sound_header(data: bytes) -> SoundHeader | None:
    """Read the header of an audio file; None where it has none that can be read."""
    try:
        with opened(data) as container:
            return _sound(container)
    except Exception:
        return None


def film_stream(container: InputContainer) -> Any:
    """Return the first video track that is not a cover picture, or None."""
    from av.stream import Disposition

    cover = Disposition.attached_pic
    return next((s for s in container.streams.video if not s.disposition & cover), None)


def _picture(image: Image.Image) -> PictureHeader:
    # Of a PNG without EXIF before its pixels, Pillow would decode the pixels to look behind them.
    looks = image.format != "PNG" or "exif" in image.info
    lies = orientation(image) if looks else 1
    width, height = image.size
    return PictureHeader(
        format=image.format or "",
        width=height if lies in SIDEWAYS else width,
        height=width if lies in SIDEWAYS else height,
        grey=image.mode in _GREY or image.mode.startswith("I;16"),
        alpha=image.has_transparency_data,
        cmyk=image.mode == "CMYK",
        rotated=lies > 1,
    )


def _film(container: InputContainer) -> FilmHeader | None:
    stream = film_stream(container)
    if stream is None:
        return None
    return FilmHeader(
        codec=_codec(stream),
        width=stream.width,
        height=stream.height,
        rate=float(stream.average_rate) if stream.average_rate else None,
        seconds=_seconds(container, stream),
        sound=_sound(container),
    )


def _sound(container: InputContainer) -> SoundHeader | None:
    stream = audio_stream(container)
    if stream is None:
        return None
    seconds = _seconds(container, stream)
    return SoundHeader(_codec(stream), stream.rate, stream.channels, seconds)


def _codec(stream: Any) -> str:
    context = getattr(stream, "codec_context", None)  # None of a codec that FFmpeg cannot decode
    return str(context.name) if context is not None else "unknown"


def _seconds(container: InputContainer, stream: Any) -> float | None:
    if stream.duration and stream.duration > 0 and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration and container.duration > 0:
        return container.duration / 1e6
    return None
