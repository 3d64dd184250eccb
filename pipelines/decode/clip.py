"""The video and audio columns of a sample, from one file where both come from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.decode import audio, video
from pipelines.decode.audio import AudioConfig, audio_stream, decode_window, wav_window
from pipelines.decode.errors import SampleError, reading
from pipelines.decode.media import beginning, opened
from pipelines.decode.video import VideoConfig, decode_clip
from pipelines.decode.wav import parse

Rows = Mapping[str, npt.NDArray[Any]]
Shapes = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]


def clip_shapes(clip: VideoConfig | None, window: AudioConfig | None) -> Shapes:
    """Shape and type of every column."""
    shapes: Shapes = {}
    if clip is not None:
        side = clip.size
        shapes["video"] = (clip.frames, side, side, 3), np.dtype(np.uint8)
        shapes["video.times"] = (clip.frames,), np.dtype(np.float32)
        shapes["video.audio"] = (1,), np.dtype(np.uint8)
    if window is not None:
        shapes["audio"] = (window.samples,), np.dtype(np.float32)
        shapes["audio.start"] = (1,), np.dtype(np.float32)
        shapes["audio.present"] = (1,), np.dtype(np.uint8)
    return shapes


def decode_video_audio(
    members: Mapping[str, bytes],
    clip: VideoConfig | None,
    window: AudioConfig | None,
    key: int,
    rows: Rows,
) -> None:
    """Decode a clip, a window of sound, or both.

    Sound comes from an audio member, or else from the video's track; a video without a track is
    silent. Beside a clip its window begins with the clip's first frame: a member begins when the
    film does.

    Args:
        members: Bytes by extension.
        clip: Which frames; None for none.
        window: Which sound; None for none.
        key: 64-bit key of the sample.
        rows: Where the columns of ``clip_shapes`` go.

    Raises:
        ValueError: A member is missing or damaged.
    """
    film = find(members, video.EXTENSIONS)
    sound = find(members, audio.EXTENSIONS)
    within: float | None = None
    if clip is not None:
        if film is None:
            raise SampleError(f"no video member, has {', '.join(sorted(members)) or 'none'}")
        with reading("video"), opened(film) as container:
            start = decode_clip(container, clip, key, rows["video"], rows["video.times"])
            rows["video.audio"][0] = audio_stream(container) is not None
            if window is not None and sound is None:
                _sound(container, window, key, start, rows)
            within = max(0.0, start - beginning(container.streams.video[0]))
    if window is not None and sound is not None:
        with reading("audio"):
            _sound_alone(sound, window, key, within, rows)
    elif window is not None and clip is None:
        if film is None:
            raise SampleError(f"no audio member, has {', '.join(sorted(members)) or 'none'}")
        with reading("audio"), opened(film) as container:
            _sound(container, window, key, None, rows)


def find(members: Mapping[str, bytes], extensions: tuple[str, ...]) -> bytes | None:
    """Return the first member that has one of some extensions."""
    return next((members[name] for name in extensions if name in members), None)


def _sound_alone(
    data: bytes, window: AudioConfig, key: int, within: float | None, rows: Rows
) -> None:
    if (wav := parse(data)) is not None:
        rows["audio.start"][0] = wav_window(wav, window, key, within, rows["audio"])
        rows["audio.present"][0] = True
        return
    with opened(data) as container:
        if (track := audio_stream(container)) is None:
            raise SampleError("no audio track")
        start = None if within is None else beginning(track) + within
        _sound(container, window, key, start, rows)


def _sound(container: Any, window: AudioConfig, key: int, start: float | None, rows: Rows) -> None:
    present = audio_stream(container) is not None
    rows["audio.present"][0] = present
    if present:
        rows["audio.start"][0] = decode_window(container, window, key, start, rows["audio"])
    else:
        rows["audio"][:] = 0.0
        rows["audio.start"][0] = start or 0.0
