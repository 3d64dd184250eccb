from __future__ import annotations

import io
import random
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from pydantic import ValidationError

from pipelines.decode import image, video
from pipelines.decode.errors import SampleError, reading
from pipelines.decode.media import opened
from pipelines.decode.video import VideoConfig, _picture, decode_clip, shown

STEADY = [number / 25 for number in range(120)]
FORMATS = [
    ("mp4", "libx264", {"bf": "3"}),
    ("mp4", "libx264", {"bf": "3", "x264-params": "open-gop=1:b-adapt=0"}),
    ("mp4", "mpeg4", {}),
    ("mov", "libx264", {}),
    ("avi", "mpeg4", {}),
    ("avi", "mpeg4", {"bf": "2"}),
    ("matroska", "libx264", {"bf": "2"}),
    ("webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    ("mpeg", "mpeg2video", {"bf": "2"}),
    ("mpegts", "libx264", {"bf": "2"}),
]


def clip(data: bytes, config: VideoConfig, key: int = 0):
    frames = np.full((config.frames, config.size, config.size, 3), 77, np.uint8)
    times = np.full(config.frames, -77, np.float32)
    with reading("video"), opened(data) as container:
        first = decode_clip(container, config, key, frames, times)
    assert np.float32(first) == times[0]
    return frames, times


def all_frames(data: bytes, number_of):
    """(time, number) of every frame, by decoding the whole file."""
    with opened(data) as container:
        frames = list(container.decode(video=0))
    assert len(frames) > 1
    return [
        (float(f.pts * f.time_base), number_of(f.to_ndarray(format="rgb24")))
        for f in frames
        if f.pts is not None
    ]


@pytest.mark.parametrize(("format", "codec", "options"), FORMATS)
@pytest.mark.parametrize("part", [0.0, 0.13, 0.5, 0.77, 1.0])
def test_a_clip_has_the_frames_shown_at_its_times(
    film, number_of, monkeypatch, format, codec, options, part
):
    data = film(STEADY, format, codec, options=options)
    truth = all_frames(data, number_of)
    assert [number for _, number in truth] == list(range(len(truth)))
    monkeypatch.setattr(video, "share", lambda *_: part)
    config = VideoConfig(frames=6, rate=4.0, size=64)
    frames, times = clip(data, config)
    first = truth[0][0]
    start = first + part * (truth[-1][0] + 0.04 - first - 1.25)
    near = 0.1 if format == "mpeg" else 0.045  # how wrong a container may be about its end
    for place, (frame, time) in enumerate(zip(frames, times, strict=True)):
        shows = min(truth, key=lambda row: abs(row[0] - time))
        assert shows[0] == pytest.approx(time, abs=1e-5)
        assert number_of(frame) == shows[1]
        assert start + place / 4 - 0.04 - near <= time <= start + place / 4 + near


def test_random_clips_follow_the_key_and_cover_the_video(film):
    data = film(STEADY)
    config = VideoConfig(frames=2, rate=4.0, size=16)
    starts = [float(clip(data, config, key)[1][0]) for key in range(-20, 20)]
    again = [float(clip(data, config, key)[1][0]) for key in range(-20, 20)]
    assert starts == again
    assert min(starts) < 0.4
    assert 4.1 < max(starts) <= 4.8 - 0.25
    assert len(set(starts)) > 25


@pytest.mark.parametrize(("sampling", "start"), [("start", 0.0), ("centre", 1.88)])
def test_a_clip_may_lie_at_a_fixed_place(film, sampling, start):
    config = VideoConfig(frames=5, rate=4.0, size=16, sampling=sampling)
    _, times = clip(film(STEADY), config, key=5)
    assert times[0] == pytest.approx(start, abs=0.03)


def test_only_what_the_clip_needs_is_decoded(film, monkeypatch):
    config = VideoConfig(frames=4, rate=8.0, size=16)
    data = film(STEADY, gop=10, options={"bf": "0"})
    monkeypatch.setattr(video, "share", lambda *_: 0.9)
    monkeypatch.setattr(video, "MAX_FRAMES", 10 + 10 + 1)  # a key frame's distance, the clip
    clip(data, config)
    monkeypatch.setattr(video, "MAX_FRAMES", 9)
    with pytest.raises(SampleError, match=r"^more than 9 frames to decode for one window$"):
        clip(data, config)


def test_the_work_for_a_clip_is_bounded_by_pixels_too(film, monkeypatch):
    monkeypatch.setattr(video, "MAX_WORK", 64 * 64 * 7)
    with pytest.raises(SampleError, match="more than 7 frames"):
        clip(film(STEADY), VideoConfig(frames=4, rate=4.0, size=16))


def test_a_short_video_repeats_its_last_frame_and_its_time(film, number_of):
    config = VideoConfig(frames=6, rate=10.0, size=64)
    frames, times = clip(film([0.0, 0.1, 0.2]), config, key=9)
    assert times == pytest.approx([0.0, 0.1, 0.2, 0.2, 0.2, 0.2])
    assert [number_of(frame) for frame in frames] == [0, 1, 2, 2, 2, 2]


def test_a_single_frame_is_a_video(film, number_of):
    frames, times = clip(film([0.0]), VideoConfig(frames=3, size=64))
    assert times.tolist() == [0.0, 0.0, 0.0]
    assert [number_of(frame) for frame in frames] == [0, 0, 0]


@pytest.mark.parametrize("format", ["mp4", "matroska"])
def test_frames_of_unequal_length_are_shown_for_as_long_as_they_last(film, number_of, format):
    uneven = [0.0, 0.05, 0.5, 0.55, 0.6, 1.4, 2.0, 2.05, 2.1]
    config = VideoConfig(frames=7, rate=4.0, size=64, sampling="start")
    frames, times = clip(film(uneven, format), config)
    assert times == pytest.approx([0.0, 0.05, 0.5, 0.6, 0.6, 0.6, 1.4], abs=2e-3)
    assert [number_of(frame) for frame in frames] == [0, 1, 2, 4, 4, 4, 5]


@pytest.mark.parametrize("format", ["matroska", "mpegts"])
@pytest.mark.parametrize("offset", [3.0, 0.2])
def test_a_clock_that_does_not_begin_at_zero_is_kept(film, number_of, format, offset):
    data = film([offset + time for time in STEADY], format, muxdelay="0", muxpreload="0")
    truth = dict(all_frames(data, number_of))
    config = VideoConfig(frames=4, rate=5.0, size=64, sampling="start")
    frames, times = clip(data, config)
    assert times[0] == pytest.approx(min(truth), abs=1e-4)
    assert [number_of(frame) for frame in frames] == [0, 5, 10, 15]


def test_a_seek_past_the_last_key_frame_is_no_end_of_the_film(film, number_of):
    data = film(STEADY, "mpegts", gop=250, options={"bf": "0", "sc_threshold": "0"})
    config = VideoConfig(frames=4, rate=8.0, size=64, sampling="centre")
    frames, _ = clip(data, config)
    assert [number_of(frame) for frame in frames] == pytest.approx([55, 58, 61, 64], abs=3)


@pytest.mark.parametrize("key", range(6))
def test_a_video_that_does_not_say_how_long_it_is_is_counted(film, number_of, key):
    data = film(STEADY, "matroska", live="1")
    with opened(data) as container:
        assert container.duration is None
    frames, times = clip(data, VideoConfig(frames=4, rate=4.0, size=64), key)
    numbers = [number_of(frame) for frame in frames]
    assert numbers == [round(time * 25) for time in times]
    assert np.diff(times) == pytest.approx([0.25] * 3, abs=0.041)


def test_a_video_shorter_than_it_says_gives_a_clip_from_what_there_is(film, number_of):
    data = bytearray(film(STEADY, "matroska"))
    place = data.index(b"\x44\x89\x88") + 3  # the duration, a double of milliseconds
    data[place : place + 8] = struct.pack(">d", 4800.0 * 100)
    config = VideoConfig(frames=4, rate=4.0, size=64, sampling="centre")
    frames, times = clip(bytes(data), config)
    assert times[0] == pytest.approx((4.8 - 0.75) / 2, abs=0.05)
    assert [number_of(frame) for frame in frames] == [round(time * 25) for time in times]


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_is_applied(film, number_of, degrees):
    data = film(STEADY, change=lambda stream: stream.set_display_rotation(degrees))
    frames, _ = clip(data, VideoConfig(frames=2, size=64, sampling="centre"))
    with opened(data) as container:
        stored = next(container.decode(video=0))
    upright = np.rot90(frames[0], -round(stored.rotation / 90))
    assert abs(stored.rotation) % 360 in (degrees, 360 - degrees)
    assert number_of(upright) > 40


def test_what_is_mirrored_is_not_turned(film, number_of):
    data = bytearray(film(STEADY, "mp4", change=lambda stream: stream.set_display_rotation(180)))
    turned = struct.pack(">9i", -1 << 16, 0, 0, 0, -1 << 16, 0, 0, 0, 1 << 30)
    mirrored = struct.pack(">9i", -1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    assert turned[:20] in data
    config = VideoConfig(frames=1, size=64, sampling="centre")
    upside_down, _ = clip(bytes(data), config)
    as_stored, _ = clip(bytes(data).replace(turned[:20], mirrored[:20]), config)
    assert np.array_equal(np.rot90(upside_down[0], 2), as_stored[0])


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def test_frames_start_no_threads(film):
    out = np.zeros((64, 64, 3), np.uint8)
    with opened(film(STEADY)) as container:
        container.streams.video[0].thread_count = 1
        frames = [frame for frame, _ in zip(container.decode(video=0), range(8), strict=False)]
        before = threads()
        for frame in frames:
            _picture(frame, out, 1.0)
        assert threads() <= before  # others may end meanwhile


def test_a_picture_turned_anticlockwise_has_its_right_side_up(film):
    data = film([0.0], change=lambda stream: stream.set_display_rotation(90))
    with opened(data) as container:
        stored = next(container.decode(video=0))
        turned = stored.to_ndarray(format="rgb24")
    assert stored.rotation == 90
    frames, _ = clip(data, VideoConfig(frames=1, size=64))
    assert np.array_equal(frames[0][0], turned[:, -1])


@pytest.mark.parametrize("size", [(128, 64), (64, 128), (64, 64)])
def test_the_centre_is_cropped(film, number_of, size):
    frames, times = clip(film(STEADY, size=size), VideoConfig(frames=2, size=64), key=3)
    assert [number_of(frame) for frame in frames] == [round(time * 25) for time in times]


def test_pixels_that_are_not_square_are_made_so(film, number_of):
    def narrow(stream):
        stream.sample_aspect_ratio = Fraction(1, 2)

    data = film(STEADY, size=(128, 64), change=narrow)
    frames, times = clip(data, VideoConfig(frames=2, size=64), key=3)
    # All 128 columns are as wide as 64 rows are high: the bars fill the middle half.
    assert [number_of(frame[:, 16:48]) for frame in frames] == [round(t * 25) for t in times]


def test_too_large_a_video_is_refused_before_it_is_decoded(film, monkeypatch):
    monkeypatch.setattr(image, "MAX_PIXELS", 64 * 64 - 1)
    monkeypatch.setattr(video, "Frames", lambda *_: pytest.fail("decoded"))
    with pytest.raises(SampleError, match=r"^64x64 pixels is too large$"):
        clip(film(STEADY), VideoConfig())


def test_damage_never_raises_anything_else_and_is_not_printed(film, noise, capfd):
    """Anything but SampleError would stop a run where it should cost one sample."""
    times = STEADY[:30]
    whole = [
        film(times, format, codec, options=options, samples=noise(1.2, 16_000), sound=sound)
        for format, codec, options, sound in [
            ("mp4", "libx264", {"bf": "2"}, "aac"),
            ("avi", "mpeg4", {}, "libmp3lame"),
            ("matroska", "libx264", {}, "aac"),
            ("webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}, "libopus"),
            ("mpeg", "mpeg2video", {}, "mp2"),
        ]
    ]
    chance = random.Random(0)
    config = VideoConfig(frames=3, rate=4.0, size=16)
    refused = 0
    for turn in range(600):
        data = bytearray(whole[turn % len(whole)])
        if turn % 10 == 9:
            del data[chance.randrange(600, len(data)) :]
        for _ in range(chance.choice([1, 4, 40])):
            # Most of the damage goes where the headers and the index are.
            reach = chance.choice([range(600), range(len(data) - 600, len(data)), range(len(data))])
            data[chance.choice(reach)] = chance.randrange(256)
        try:
            frames, _ = clip(bytes(data), config, key=turn)
            assert not (frames == 77).all()
        except SampleError:
            refused += 1
    assert 60 < refused < 540
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("data", [b"", b"\0" * 3000, b"not a video" * 99, b"RIFF\0\0\0\0AVI LIST"])
def test_what_is_not_a_video_is_refused(data):
    with pytest.raises(SampleError, match=r"^not a readable video \("):
        clip(data, VideoConfig())


def test_a_video_that_grows_beyond_what_it_said_is_refused(film):
    small = film(STEADY[:20], "mpegts", options={"bf": "0"})
    large = film([1 + time for time in STEADY[:20]], "mpegts", size=(640, 480))
    config = VideoConfig(frames=2, rate=1.0, size=16, sampling="start")
    clip(small, config)
    with pytest.raises(SampleError, match=r"^not a readable video \("):
        clip(small + large, config)


def test_the_cover_of_a_sound_is_not_a_video():
    sink = io.BytesIO()
    with av.open(sink, "w", format="mp4") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        sound = container.add_stream("aac", rate=16_000, layout="mono")
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        samples.sample_rate = 16_000
        for stream, frame in [(cover, picture), (sound, samples)]:
            frame.pts = 0
            container.mux([*stream.encode(frame), *stream.encode(None)])
    with opened(sink.getvalue()) as container:
        assert len(container.streams.video) == 1
    with pytest.raises(SampleError, match=r"^no video track$"):
        clip(sink.getvalue(), VideoConfig())


def test_a_file_without_a_video_track_is_refused(sound, noise):
    with pytest.raises(SampleError, match=r"^no video track$"):
        clip(sound(noise(1.0, 16_000), "mp4", "aac"), VideoConfig())


def test_frames_before_and_after_the_clock_are_the_nearest():
    frames = [(1.0, "a"), (2.0, "b"), (1.5, "late"), (3.0, "c")]
    wanted = [0.0, 1.0, 1.9, 2.0, 2.9, 9.0]
    assert "".join(name for _, name in shown(frames, wanted)) == "aaabbc"
    with pytest.raises(SampleError, match=r"^no frame that can be decoded$"):
        list(shown([], wanted))


@pytest.mark.parametrize(
    "options", [{"frames": 0}, {"rate": 0}, {"size": 0}, {"sampling": "middle"}, {"rate": 1e9}]
)
def test_a_clip_that_cannot_be_is_refused(options):
    with pytest.raises(ValidationError):
        VideoConfig(**options)


@pytest.mark.parametrize("rate", [16.0, 24.0, 29.97, 60.0, 240.0])
def test_clocks_of_milliseconds_repeat_no_frame_of_a_film_that_is_as_fast(rate):
    frames = [(round(number / rate, 3), number) for number in range(32)]
    assert [frame for _, frame in shown(frames, [n / rate for n in range(32)])] == list(range(32))
