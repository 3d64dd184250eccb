from __future__ import annotations

import numpy as np
import pytest

from pipelines.decode.audio import AudioConfig
from pipelines.decode.clip import clip_shapes, decode_video_audio
from pipelines.decode.errors import SampleError
from pipelines.decode.video import VideoConfig

RATE = 16_000
TIMES = [number / 25 for number in range(100)]
CLIP = VideoConfig(frames=4, rate=8.0, size=64)
WINDOW = AudioConfig(seconds=0.5)


def decode(members, clip=CLIP, window=WINDOW, key=0):
    shapes = clip_shapes(clip, window)
    rows = {name: np.full(shape, 7, dtype) for name, (shape, dtype) in shapes.items()}
    decode_video_audio(members, clip, window, key, rows)
    return rows


@pytest.mark.parametrize(
    ("format", "codec", "sound"),
    [("mp4", "libx264", "aac"), ("mkv", "libx264", "flac"), ("avi", "mpeg4", "pcm_s16le")],
)
@pytest.mark.parametrize("key", range(5))
def test_the_sound_of_a_video_begins_with_its_clip(
    film, noise, number_of, format, codec, sound, key
):
    signal = noise(4.0, RATE)
    muxer = "matroska" if format == "mkv" else format
    options = {} if codec == "mpeg4" else {"bf": "2"}
    data = film(TIMES, muxer, codec, samples=signal, sound=sound, options=options)
    rows = decode({format: data}, key=key)
    start = rows["audio.start"][0]
    assert start == rows["video.times"][0]
    assert number_of(rows["video"][0]) == round(float(start) * 25)
    place = round(float(start) * RATE)
    heard = signal[place : place + WINDOW.samples]
    assert np.corrcoef(rows["audio"][: len(heard)], heard)[0, 1] > 0.98
    assert rows["video.audio"].tolist() == rows["audio.present"].tolist() == [1]


def test_sound_that_begins_later_than_the_pictures_is_in_its_place(film, noise):
    signal = noise(2.0, RATE)
    clip = VideoConfig(frames=2, rate=8.0, size=16, sampling="start")
    window = AudioConfig(seconds=1.0)
    data = film(TIMES, "matroska", samples=signal, sound="flac", start=0.25)
    rows = decode({"mkv": data}, clip, window)
    assert rows["audio.start"][0] == 0.0
    assert not rows["audio"][:4000].any()
    assert rows["audio"][4000:] == pytest.approx(signal[:12_000], abs=1e-3)


def test_a_video_without_a_track_is_silent(film):
    rows = decode({"mp4": film(TIMES)}, key=3)
    assert not rows["audio"].any()
    assert rows["audio.start"][0] == rows["video.times"][0]
    assert rows["video.audio"].tolist() == rows["audio.present"].tolist() == [0]


@pytest.mark.parametrize(("tracks", "present"), [(True, 1), (False, 0)])
def test_sound_alone_may_come_from_a_video(film, noise, tracks, present):
    signal = noise(4.0, RATE)
    rows = decode({"mp4": film(TIMES, samples=signal if tracks else None)}, clip=None)
    assert sorted(rows) == ["audio", "audio.present", "audio.start"]
    assert rows["audio.present"].tolist() == [present]
    assert rows["audio"].any() == tracks


def test_an_audio_member_goes_before_the_track_of_a_video(film, sound, noise):
    other = 0.2 * np.sin(np.arange(4 * RATE) / 5).astype(np.float32)
    members = {"mp4": film(TIMES, samples=noise(4.0, RATE)), "wav": sound(other)}
    rows = decode(members)
    assert rows["audio.start"][0] == rows["video.times"][0]  # beside the clip, as the track is
    place = round(float(rows["audio.start"][0]) * RATE)
    assert rows["audio"] == pytest.approx(other[place : place + WINDOW.samples], abs=1e-4)
    assert rows["audio.present"].tolist() == [1]


@pytest.mark.parametrize(
    ("clip", "window", "names", "reason"),
    [
        (CLIP, None, ["wav"], "no video member, has wav"),
        (CLIP, WINDOW, ["wav"], "no video member, has wav"),
        (None, WINDOW, ["txt"], "no audio member, has txt"),
        (None, WINDOW, [], "no audio member, has none"),
    ],
)
def test_a_missing_member_is_named(sound, noise, clip, window, names, reason):
    members = {name: sound(noise(1.0, RATE)) for name in names}
    with pytest.raises(SampleError, match=f"^{reason}$"):
        decode(members, clip, window)


def test_an_audio_member_without_sound_is_refused(film):
    with pytest.raises(SampleError, match=r"^no audio track$"):
        decode({"m4a": film(TIMES)}, clip=None)


def test_there_is_a_column_for_what_is_asked():
    assert clip_shapes(None, None) == {}
    shapes = clip_shapes(CLIP, AudioConfig(rate=8000, seconds=0.1))
    assert {name: shape for name, (shape, _) in shapes.items()} == {
        "video": (4, 64, 64, 3),
        "video.times": (4,),
        "video.audio": (1,),
        "audio": (800,),
        "audio.start": (1,),
        "audio.present": (1,),
    }
