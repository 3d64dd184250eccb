from __future__ import annotations

import io
import math

import av
import pytest
import torch

from pipelines.core import randomness
from pipelines.decode.media import interval, opened, settle, share, uniform


@pytest.mark.parametrize("key", [0, 1, -1, 2**63 - 1, -(2**63), 123456789])
@pytest.mark.parametrize("stream", [0, 2048, 2049])
def test_numbers_are_those_of_the_training_devices(key, stream):
    keys = torch.tensor([key], dtype=torch.int64)
    assert uniform(key, stream) == randomness.uniform(keys, stream, 1)[0, 0].item()


def test_a_random_place_follows_the_key_and_others_do_not():
    assert [share("start", key, 1) for key in (1, 2)] == [0.0, 0.0]
    assert [share("centre", key, 1) for key in (1, 2)] == [0.5, 0.5]
    assert share("random", 1, 1) == uniform(1, 1) != share("random", 2, 1)


@pytest.mark.parametrize(
    ("bounds", "part", "ends", "starts"),
    [
        ((0.0, 10.0), 0.5, [math.inf], [4.0]),
        ((1.0, 11.0), 1.0, [math.inf], [9.0]),
        ((3.0, 4.0), 0.7, [4.0], [3.0]),  # shorter than the window: from its start, once
        ((0.0, 100.0), 0.5, [10.0, math.inf], [49.0, 4.0]),
        ((5.0, 100.0), 0.5, [6.0, 6.0], [51.5, 5.0]),
    ],
)
def test_a_window_is_placed_again_where_the_stream_is_shorter_than_it_says(
    bounds, part, ends, starts
):
    tried: list[float] = []

    def attempt(start: float) -> float:
        tried.append(start)
        return ends[len(tried) - 1]

    assert settle(bounds, 2.0, part, attempt) == starts[-1]
    assert tried == starts


@pytest.mark.parametrize(
    "playlist",
    [
        "ffconcat version 1.0\nfile other.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nother.mp4\n#EXT-X-ENDLIST\n",
    ],
)
def test_a_member_cannot_name_another_file(film, tmp_path, monkeypatch, playlist):
    (tmp_path / "other.mp4").write_bytes(film([0.0, 0.04]))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(av.FFmpegError), opened(playlist.encode()):
        pytest.fail("opened")


@pytest.mark.parametrize("format", ["mp4", "matroska", "avi", "mpeg", "mpegts"])
def test_a_stream_says_from_when_to_when_it_goes(film, format):
    codec = {"avi": "mpeg4", "mpeg": "mpeg2video"}.get(format, "libx264")
    data = film([number / 25 for number in range(100)], format, codec)
    with opened(data) as container:
        start, end = interval(container, container.streams.video[0])
    assert end - start == pytest.approx(4.0, abs=0.09)


def test_a_stream_that_does_not_say_when_it_ends_is_counted(film):
    for count in (5, 100):  # fewer and more than the packets that tell its start
        data = film([3.0 + number / 25 for number in range(count)], "matroska", live="1")
        with opened(data) as container:
            assert container.duration is None
            start, end = interval(container, container.streams.video[0])
        assert start == pytest.approx(3.0)
        assert end == pytest.approx(3.0 + count / 25, abs=0.041)


def test_other_formats_are_not_opened(film):
    for format, codec in [("nut", "mpeg4"), ("flv", "libx264")]:
        data = film([0.0, 0.04], format, codec)
        with pytest.raises(av.FFmpegError), opened(data):
            pytest.fail("opened")


def test_ffmpeg_is_made_silent(film):
    av.logging.set_level(av.logging.DEBUG)
    with opened(film([0.0, 0.04])):
        assert av.logging.get_level() is None


def test_metadata_of_another_encoding_is_no_fault(film):
    data = film([0.0, 0.04], "matroska").replace(b"Lavf", b"\xff\xfe\xff\xfe")
    with pytest.raises(UnicodeDecodeError):
        av.open(io.BytesIO(data))
    with opened(data) as container:
        assert len(container.streams.video) == 1
