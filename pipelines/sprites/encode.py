"""A clip as a QuickTime file in which no frame depends on another; its sound alone as a WAV."""

from __future__ import annotations

import io
import wave
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import simplejpeg

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.stream import Stream

Codec = Literal["raw", "mjpeg"]
_QUALITY = 92  # of JPEG, the same for every frame
_PACKET = 1024  # samples of sound


def encode_clip(
    frames: npt.NDArray[np.uint8],
    sound: npt.NDArray[np.float32] | None,
    fps: int,
    rate: int,
    codec: Codec,
) -> bytes:
    """Write a file, with sound that is exact to 16 bits or with none.

    Every frame is a picture by itself at one quality, so that the coding says
    nothing of the order of frames. The same clip gives the same bytes.

    Args:
        frames: RGB. [T, S, S, 3] uint8
        sound: In [-1, 1], or None for a silent film. [N] float32
        fps: Frames a second.
        rate: Samples of sound a second.
        codec: ``raw``, which loses nothing and is read fastest, or ``mjpeg``, a fifth of
            its size.
    """
    import av

    sink = io.BytesIO()
    exact = {"fflags": "+bitexact"}  # without it the library signs with its version
    with av.open(sink, "w", format="mov", options=exact) as container:
        film = container.add_stream("rawvideo" if codec == "raw" else codec, rate=fps)
        film.height, film.width = frames.shape[1:3]
        film.pix_fmt = "rgb24" if codec == "raw" else "yuvj444p"
        # Streams are declared before anything is written.
        track = None if sound is None else container.add_stream("pcm_s16le", rate, layout="mono")
        each = Fraction(1, fps)
        for number, frame in enumerate(frames):
            _mux(container, film, _picture(frame, codec), number, 1, each)
        if sound is not None and track is not None:
            _mux_sound(container, track, _whole(sound), rate)
    return sink.getvalue()


def encode_sound(sound: npt.NDArray[np.float32], rate: int) -> bytes:
    """Write a WAV, of the same numbers as a clip's track.

    Args:
        sound: In [-1, 1]. [N] float32
        rate: Samples a second.
    """
    sink = io.BytesIO()
    with wave.open(sink, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(_whole(sound).tobytes())
    return sink.getvalue()


def _whole(sound: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    return np.asarray(np.round(sound * 32767.0), "<i2")


def _picture(frame: npt.NDArray[np.uint8], codec: Codec) -> bytes:
    if codec == "raw":
        return frame.tobytes()
    return bytes(simplejpeg.encode_jpeg(frame, _QUALITY, colorspace="RGB", colorsubsampling="444"))


def _mux_sound(
    container: OutputContainer, track: Stream, data: npt.NDArray[np.int16], rate: int
) -> None:
    each = Fraction(1, rate)
    for start in range(0, len(data), _PACKET):
        part = data[start : start + _PACKET]
        _mux(container, track, part.tobytes(), start, len(part), each)


def _mux(
    container: OutputContainer, stream: Stream, data: bytes, time: int, length: int, unit: Fraction
) -> None:
    from av import Packet

    packet = Packet(data)
    packet.stream, packet.time_base = stream, unit
    packet.pts = packet.dts = time
    packet.duration = length
    packet.is_keyframe = True
    container.mux(packet)
