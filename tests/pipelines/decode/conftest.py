"""Small audio and video files, made by PyAV, whose every frame and sample is known."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

BITS = 8
SIDE = 64
TICKS = 1000  # time base of the films' frames


def _numbered(number: int, width: int, height: int) -> npt.NDArray[np.uint8]:
    """A grey picture whose centre square shows a number as bars, most significant bit first."""
    bits = [(number >> bit) & 1 for bit in reversed(range(BITS))]
    side = min(width, height)
    bars = np.repeat(np.where(bits, 230, 25).astype(np.uint8), side // BITS)
    row = np.full(width, 128, np.uint8)
    left = (width - side) // 2
    row[left : left + len(bars)] = bars
    return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()


@pytest.fixture(scope="session")
def number_of() -> Callable[[npt.NDArray[np.uint8]], int]:
    """Read the number that a decoded frame shows."""

    def read(frame: npt.NDArray[np.uint8]) -> int:
        bars = frame.mean(axis=(0, 2)).reshape(BITS, -1)
        middle = bars[:, bars.shape[1] // 4 : -(bars.shape[1] // 4) or None].mean(axis=1)
        return int(sum(1 << (BITS - 1 - place) for place, bar in enumerate(middle) if bar > 128))

    return read


def _add_frames(
    container: Any,
    codec: str,
    times: Sequence[float],
    size: tuple[int, int],
    options: dict[str, str],
    change: Callable[[Any], None],
) -> Callable[[], None]:
    stream = container.add_stream(codec, rate=Fraction(25), options=options)
    stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
    stream.codec_context.time_base = Fraction(1, 25 if codec in ("mpeg4", "mpeg2video") else TICKS)
    change(stream)

    def write() -> None:
        base = stream.codec_context.time_base
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(_numbered(number, *size), format="rgb24")
            frame.time_base, frame.pts = base, round(Fraction(time).limit_denominator(TICKS) / base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    return write


def _add_sound(
    container: Any, codec: str, samples: npt.NDArray[np.float32], rate: int, start: float
) -> Callable[[], None]:
    layout = "stereo" if samples.ndim == 2 else "mono"
    stream = container.add_stream(codec, rate=rate, layout=layout)
    if codec in ("libmp3lame", "aac", "libopus", "vorbis"):
        stream.bit_rate = 192_000

    def write() -> None:
        frame = av.AudioFrame.from_ndarray(np.atleast_2d(samples), format="fltp", layout=layout)
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = round(start * rate)
        context = stream.codec_context
        resampler = av.AudioResampler(context.format, context.layout, rate, context.frame_size)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))

    return write


@pytest.fixture(scope="session")
def film() -> Callable[..., bytes]:
    """A video's bytes; frame n shows the number n at ``times[n]``."""

    def make(
        times: Sequence[float],
        format: str = "mp4",
        codec: str = "libx264",
        size: tuple[int, int] = (SIDE, SIDE),
        gop: int = 12,
        samples: npt.NDArray[np.float32] | None = None,
        rate: int = 16_000,
        start: float = 0.0,
        sound: str = "aac",
        options: dict[str, str] | None = None,
        change: Callable[[Any], None] = lambda stream: None,
        **muxing: str,
    ) -> bytes:
        sink = io.BytesIO()
        with av.open(sink, "w", format=format, container_options=muxing) as container:
            coding = {"g": str(gop), **(options or {})}
            steps = [_add_frames(container, codec, times, size, coding, change)]
            if samples is not None:
                steps.append(_add_sound(container, sound, samples, rate, start))
            for step in steps:
                step()
        return sink.getvalue()

    return make


@pytest.fixture(scope="session")
def sound() -> Callable[..., bytes]:
    """An audio file's bytes, of samples [N] or [2, N] in [-1, 1]."""

    def make(
        samples: npt.NDArray[np.float32],
        format: str = "wav",
        codec: str = "pcm_s16le",
        rate: int = 16_000,
        start: float = 0.0,
        **muxing: str,
    ) -> bytes:
        sink = io.BytesIO()
        with av.open(sink, "w", format=format, container_options=muxing) as container:
            _add_sound(container, codec, samples, rate, start)()
        return sink.getvalue()

    return make


def _noise(seconds: float, rate: int) -> npt.NDArray[np.float32]:
    """Noise without its high frequencies, which codecs keep: no two windows of it are alike."""
    white = np.random.default_rng(0).normal(size=round(seconds * rate))
    smooth = np.convolve(white, np.hanning(17), mode="same")
    return (0.4 * smooth / np.abs(smooth).max()).astype(np.float32)


@pytest.fixture(scope="session")
def noise() -> Callable[[float, int], npt.NDArray[np.float32]]:
    """``noise(seconds, rate)``: the same beginning every time. [N] float32."""
    return _noise
