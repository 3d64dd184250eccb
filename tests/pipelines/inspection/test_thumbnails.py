from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pipelines.decode.errors import SampleError
from pipelines.inspection import thumbnails
from pipelines.inspection.thumbnails import BARS, FRAMES, film_frames, picture_thumbnail, wave


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def saved(image: Image.Image, format: str, **options) -> bytes:
    sink = io.BytesIO()
    image.save(sink, format, **options)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("size", "small"), [((720, 180), (360, 90)), ((300, 1200), (90, 360)), ((200, 100), (200, 100))]
)
def test_a_picture_keeps_its_aspect_ratio(picture, size, small) -> None:
    thumbnail = picture_thumbnail(picture(0, *size, "JPEG"))
    assert (thumbnail.width, thumbnail.height) == small
    assert thumbnail.full == size
    assert pixels(thumbnail.data).shape == (small[1], small[0], 3)


def test_a_small_picture_is_kept_without_loss(picture) -> None:
    data = picture(0, 64, 64)
    assert (pixels(picture_thumbnail(data).data) == pixels(data)).all()


def test_a_rotated_picture_is_upright() -> None:
    image = Image.new("RGB", (200, 100), "red")
    image.paste("blue", (100, 0, 200, 100))
    tags = Image.Exif()
    tags[0x0112] = 6  # turn clockwise: left becomes top
    thumbnail = picture_thumbnail(saved(image, "JPEG", exif=tags.tobytes()))
    assert thumbnail.full == (thumbnail.width, thumbnail.height) == (100, 200)
    upright = pixels(thumbnail.data)
    assert upright[20, 50, 0] > 200
    assert upright[180, 50, 2] > 200


@pytest.mark.parametrize(("mode", "colour"), [("RGBA", (0, 0, 0, 0)), ("LA", (0, 0))])
def test_what_is_transparent_is_white(mode: str, colour: tuple[int, ...]) -> None:
    thumbnail = picture_thumbnail(saved(Image.new(mode, (8, 8), colour), "PNG"))
    assert (pixels(thumbnail.data) == 255).all()


@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_other_colours_become_rgb(mode: str) -> None:
    thumbnail = picture_thumbnail(saved(Image.new(mode, (300, 200)), "JPEG"))
    assert Image.open(io.BytesIO(thumbnail.data)).mode == "RGB"


def test_sixteen_bits_are_scaled() -> None:
    grey = Image.fromarray(np.full((8, 8), 128 * 256, np.uint16))
    assert (pixels(picture_thumbnail(saved(grey, "PNG")).data) == 128).all()


def test_what_cannot_be_shown_is_one_error() -> None:
    for make in (picture_thumbnail, film_frames, wave):
        with pytest.raises(SampleError, match="not a readable"):
            make(b"?")


def test_frames_lie_at_equal_distances(film, number_of) -> None:
    frames = film_frames(film([n / 10 for n in range(100)]))
    assert [frame.seconds for frame in frames] == pytest.approx([1.0, 3.0, 5.0, 7.0, 9.0], abs=0.11)
    shown = [number_of(pixels(frame.data).astype(np.uint8)) for frame in frames]
    assert shown == [round(10 * frame.seconds) for frame in frames]


def test_a_short_film_shows_each_frame_once(film) -> None:
    frames = film_frames(film([0.0, 0.5]))
    assert 1 <= len(frames) < FRAMES
    assert len({frame.seconds for frame in frames}) == len(frames)


def test_frames_have_the_films_shape(film) -> None:
    def anamorphic(stream) -> None:
        stream.sample_aspect_ratio = 2

    plain = film_frames(film([0.0, 0.1], size=(320, 64)))[0]
    assert (plain.width, plain.height, plain.full) == (240, 48, (320, 64))
    wide = film_frames(film([0.0, 0.1], size=(64, 64), change=anamorphic))[0]
    assert (wide.width, wide.height, wide.full) == (128, 64, (128, 64))


def test_a_damaged_end_leaves_the_frames_before_it(film) -> None:
    data = film([n / 25 for n in range(250)], format="matroska", gop=5)
    frames = film_frames(data[: len(data) // 2])
    assert 1 <= len(frames) <= FRAMES


def test_a_waveform_shows_where_it_is_loud(sound) -> None:
    quiet, loud = np.full(8000, 0.1, np.float32), np.full(8000, 0.8, np.float32)
    drawn = wave(sound(np.concatenate([quiet, loud]), rate=16_000))
    assert (drawn.heard, drawn.seconds, len(drawn.peaks)) == (1.0, 1.0, BARS)
    assert drawn.peaks[BARS // 4] == pytest.approx(0.1, abs=0.01)
    assert drawn.peaks[-BARS // 4] == pytest.approx(0.8, abs=0.01)


def test_a_long_sound_is_only_begun(sound, noise, monkeypatch) -> None:
    monkeypatch.setattr(thumbnails, "HEARD", 0.5)
    drawn = wave(sound(noise(2.0, 16_000)))
    assert (drawn.heard, drawn.seconds) == (0.5, 2.0)


def test_a_film_without_sound_has_no_waveform(film) -> None:
    assert wave(film([0.0, 0.04])) is None
