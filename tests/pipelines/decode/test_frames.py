from __future__ import annotations

import io
import math

import av
import pytest

from pipelines.decode import media
from pipelines.decode.errors import SampleError
from pipelines.decode.frames import Frames
from pipelines.decode.media import opened


@pytest.mark.parametrize("start", [0.0, 0.5, 1.7, 3.96, 99.0])
def test_frames_begin_at_or_before_a_time_and_go_to_the_end(film, start):
    data = film([number / 25 for number in range(100)], options={"bf": "3"})
    with opened(data) as container:
        frames = Frames(container, container.streams.video[0], start, 0.0, 500)
        assert frames.end == math.inf
        times = [time for time, _ in frames]
    assert start - 12 / 25 <= times[0] <= start or start > 4
    assert times == sorted(times)
    assert times[-1] == pytest.approx(3.96)
    assert frames.end == pytest.approx(4.0)


def test_packets_are_bounded(film, monkeypatch):
    monkeypatch.setattr(media, "_MAX_PACKETS", 20)
    with opened(film([number / 25 for number in range(100)])) as container:
        frames = Frames(container, container.streams.video[0], 0.0, 0.0, 500)
        with pytest.raises(SampleError, match=r"^more than 20 packets$"):
            list(frames)


def with_decoding_times(data: bytes) -> bytes:
    """The same file, as from a muxer that wrote decoding times as those of presentation."""
    sink = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(sink, "w", format="mp4") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.pts = packet.dts
                packet.stream = stream
                copy.mux(packet)
    return sink.getvalue()


@pytest.mark.parametrize("start", [0.0, 2.0])
def test_wrong_presentation_times_do_not_shuffle_the_frames(film, number_of, start):
    data = film([number / 25 for number in range(100)], options={"bf": "3", "b_strategy": "0"})
    with opened(with_decoding_times(data)) as container:
        stream = container.streams.video[0]
        raw = [frame.pts for frame in container.decode(stream)]
        assert raw != sorted(raw)
        frames = list(Frames(container, stream, start, 0.0, 500))
    times = [time for time, _ in frames]
    numbers = [number_of(frame.to_ndarray(format="rgb24")) for _, frame in frames]
    assert times == sorted(times)
    assert numbers == sorted(numbers)
    assert len(set(numbers)) > 40
    assert all(abs(time * 25 - number) < 5 for time, number in zip(times, numbers, strict=True))


def test_a_file_without_an_index_is_read_from_its_beginning(film, number_of):
    data = film([number / 25 for number in range(100)], "avi", "mpeg4")
    with opened(data[: data.index(b"idx1")]) as container:
        frames = list(Frames(container, container.streams.video[0], 3.0, 0.0, 500))
    assert frames[0][0] <= 3.0
    assert [number_of(frame.to_ndarray(format="rgb24")) for _, frame in frames][-1] == 99


class WithoutIndex:
    """A container that cannot seek to a time, only to its beginning."""

    def __init__(self, container):
        self._container = container

    def __getattr__(self, name):
        return getattr(self._container, name)

    def seek(self, offset, stream):
        if offset > 0:
            raise av.error.PermissionError(1, "Operation not permitted")
        self._container.seek(offset, stream=stream)


def test_where_seeking_fails_a_file_is_read_from_its_beginning(film):
    with opened(film([number / 25 for number in range(100)])) as container:
        stream = container.streams.video[0]
        times = [time for time, _ in Frames(WithoutIndex(container), stream, 3.0, 0.0, 500)]
    assert times == pytest.approx([number / 25 for number in range(100)])


def test_frames_that_lack_a_part_are_left_out(film):
    times = [number / 25 for number in range(100)]
    whole = film(times, "mpegts", "mpeg2video", size=(320, 240), options={"bf": "0"})
    lacking = 0
    middle = len(whole) // 188 // 2
    for lost in range(middle, middle + 12):
        data = whole[: 188 * lost] + whole[188 * (lost + 1) :]
        with opened(data) as container:
            stream = container.streams.video[0]
            corrupt = {f.time for f in container.decode(stream) if f.is_corrupt}
            kept = {time for time, _ in Frames(container, stream, 0.0, 0.0, 500)}
        assert not corrupt & kept
        lacking += len(corrupt)
    assert lacking > 0
