"""Audio: a window of mono samples at a wanted rate, exact to the sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pipelines.core import Config
from pipelines.decode.errors import SampleError
from pipelines.decode.frames import Frames
from pipelines.decode.media import Sampling, check_decoder, interval, settle, share
from pipelines.decode.wav import Wav

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer

EXTENSIONS = ("wav", "flac", "mp3", "ogg", "m4a", "opus")
_STREAM = 2049  # of random numbers
_RATES = range(1000, 768_001)  # samples a second that a file may have
_WARM_UP = 0.5  # seconds decoded before a window: a codec's first samples after a seek are wrong
_MARGIN = 0.05  # seconds on both sides, which the resampling filter looks at
_JITTER = 0.005  # seconds by which containers round the times of frames
_MOST = 20_000  # frames decoded beyond those of the window

Samples = npt.NDArray[np.float32]


class AudioConfig(Config):
    """A window of sound.

    Attributes:
        rate: Samples a second.
        seconds: Length.
        sampling: Where in a file without video the window lies; random follows
            the sample's key. That of a video begins with the clip.
    """

    rate: int = Field(default=16_000, ge=1000, le=192_000)
    seconds: float = Field(default=2.0, gt=0, le=600)
    sampling: Sampling = "random"

    @property
    def samples(self) -> int:
        """Samples of a window."""
        return max(1, round(self.rate * self.seconds))


def audio_stream(container: InputContainer) -> AudioStream | None:
    """Return the first audio track, or None."""
    return next(iter(container.streams.audio), None)


def decode_window(
    container: InputContainer, config: AudioConfig, key: int, start: float | None, out: Samples
) -> float:
    """Decode a window.

    Its first sample is the file's own that is nearest to the start. What lies
    before the track, in a gap of it or after its end is silence.

    Args:
        container: An opened file.
        config: Which window.
        key: 64-bit key of the sample, which decides where a random window lies.
        start: Where it begins, in seconds of the file's clock; None to sample it.
        out: Where to: the mean of the channels, in [-1, 1]. [N] float32

    Returns:
        Where it begins, in seconds.

    Raises:
        ValueError: No audio track, or damaged.
    """
    stream = audio_stream(container)
    if stream is None:
        raise SampleError("no audio track")
    check_decoder(stream)
    bounds = interval(container, stream)

    def attempt(at: float) -> float:
        most = _MOST + math.ceil(1000 * config.seconds)
        frames = Frames(container, stream, at - _WARM_UP, bounds[0], most)
        out[:] = _window(frames, at, config)
        return frames.end

    if start is None:
        part = share(config.sampling, key, _STREAM)
        return settle(bounds, config.seconds, part, attempt)
    attempt(start)
    return start


def wav_window(wav: Wav, config: AudioConfig, key: int, start: float | None, out: Samples) -> float:
    """Take a window of a whole file, as ``decode_window`` does.

    Returns:
        Where it begins, in seconds.
    """
    if start is None:
        room = max(0.0, len(wav) / wav.rate - config.seconds)
        start = room * share(config.sampling, key, _STREAM)
    line = _Line(wav.rate, start, config)
    line.add_wav(wav)
    out[:] = line.resampled()
    return start


def _window(frames: Frames, start: float, config: AudioConfig) -> Samples:
    """Samples from a time on, at the wanted rate. [N] float32."""
    line: _Line | None = None
    for time, frame in frames:
        if line is None:
            line = _Line(frame.sample_rate, start, config)
        if line.add(time, frame):
            break
    if line is None:
        raise SampleError("no sound that can be decoded")
    return line.resampled()


class _Line:
    """Samples of a track, each in its place, around a window.

    A whole number of periods that both rates share is kept before the window,
    so that it begins with a sample at either rate.
    """

    def __init__(self, rate: int, start: float, config: AudioConfig):
        if rate not in _RATES:
            raise SampleError(f"sound of {rate} samples a second")
        self._rate, self._config = rate, config
        shared = math.gcd(rate, config.rate)
        periods = math.ceil(_MARGIN * shared)
        self._before = periods * (rate // shared)
        self._skip = periods * (config.rate // shared)
        self._first = round(start * rate) - self._before
        span = math.ceil(config.samples * rate / config.rate)
        self._samples = np.zeros(self._before + span + math.ceil(_MARGIN * rate), np.float32)
        self._next: int | None = None

    def add(self, time: float, frame: Any) -> bool:
        """Put a frame in its place; returns whether the line is full."""
        if frame.sample_rate != self._rate:
            raise SampleError("sound that changes its rate")
        place = round(time * self._rate) - self._first
        if self._next is not None and abs(place - self._next) <= _JITTER * self._rate:
            place = self._next
        self._next = place + frame.samples
        self._put(place, frame.samples, lambda low, high: _channels(frame)[:, low:high])
        return self._next >= len(self._samples)

    def add_wav(self, wav: Wav) -> None:
        """Put all of a file in its place that is of the window."""
        self._put(-self._first, len(wav), wav.channels)

    def _put(self, place: int, count: int, cut: Callable[[int, int], npt.NDArray[Any]]) -> None:
        """Put so many samples from a place on; ``cut`` gives some of them."""
        low, high = max(0, place), min(len(self._samples), place + count)
        if low < high:
            self._samples[low:high] = _mono(cut(low - place, high - place))

    def resampled(self) -> Samples:
        """The window at the wanted rate. [N] float32."""
        # Floats of a damaged file may be anything, and one NaN would spread by the filter.
        samples = np.nan_to_num(self._samples, copy=False)
        np.clip(samples, -1.0, 1.0, out=samples)
        if self._rate != self._config.rate:
            samples = _resample(samples, self._rate, self._config.rate)
        window = np.zeros(self._config.samples, np.float32)
        part = samples[self._skip : self._skip + len(window)]
        window[: len(part)] = part
        return np.clip(window, -1.0, 1.0, out=window)  # the filter overshoots


def _channels(frame: Any) -> npt.NDArray[Any]:
    """Samples of a frame. [C, N]."""
    data: npt.NDArray[Any] = frame.to_ndarray()
    return data if frame.format.is_planar else data.reshape(frame.samples, -1).T


def _mono(part: npt.NDArray[Any]) -> Samples:
    """The mean of channels, whole numbers by their range. [C, N] -> [N]."""
    scaled = part.astype(np.float32)
    if part.dtype == np.uint8:
        scaled /= 128.0
        scaled -= 1.0
    elif part.dtype.kind == "i":
        scaled /= float(1 << (8 * part.dtype.itemsize - 1))
    mean: Samples = scaled[0] if len(scaled) == 1 else scaled.mean(axis=0)
    return mean


def _resample(samples: Samples, source: int, rate: int) -> Samples:
    from av import AudioFrame, AudioResampler

    frame = AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
    frame.sample_rate = source
    resampler = AudioResampler(format="flt", layout="mono", rate=rate)
    parts = [part for flush in (frame, None) for part in resampler.resample(flush)]
    resampled: Samples = np.concatenate([part.to_ndarray()[0] for part in parts])
    return resampled
