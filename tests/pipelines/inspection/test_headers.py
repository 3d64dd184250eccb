from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pipelines.inspection.headers import (
    PictureHeader,
    SoundHeader,
    film_header,
    picture_header,
    sound_header,
)


def saved(mode: str, format: str, **options) -> bytes:
    sink = io.BytesIO()
    Image.new(mode, (40, 20)).save(sink, format, **options)
    return sink.getvalue()


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


@pytest.mark.parametrize(
    ("mode", "format", "kinds"),
    [
        ("RGB", "JPEG", set()),
        ("L", "JPEG", {"grey"}),
        ("CMYK", "JPEG", {"cmyk"}),
        ("RGBA", "PNG", {"alpha"}),
        ("LA", "PNG", {"grey", "alpha"}),
        ("1", "PNG", {"grey"}),
        ("I;16", "PNG", {"grey"}),
        ("P", "PNG", set()),
        ("RGBA", "WEBP", {"alpha"}),
    ],
)
def test_what_a_picture_is(mode: str, format: str, kinds: set[str]) -> None:
    flags = dict.fromkeys(("grey", "alpha", "cmyk", "rotated"), False) | dict.fromkeys(kinds, True)
    expected = PictureHeader(format=format, width=40, height=20, **flags)
    assert picture_header(saved(mode, format)) == expected


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(("orientation", "size"), [(3, (40, 20)), (6, (20, 40))])
def test_a_rotated_picture_is_measured_upright(format, orientation, size) -> None:
    header = picture_header(saved("RGB", format, exif=exif(orientation)))
    assert header.rotated
    assert (header.width, header.height) == size


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_pixels_are_not_decoded(picture, format: str) -> None:
    data = picture(0, 900, 700, format)
    assert picture_header(data[: len(data) // 20]) == picture_header(data)
    assert picture_header(data).width == 900


@pytest.mark.parametrize("read", [picture_header, film_header, sound_header])
@pytest.mark.parametrize("data", [b"", b"x" * 100, b"\xff\xd8\xff", b"RIFF\0\0\0\0WAVE", b"GIF89a"])
def test_what_has_no_header_has_no_facts(read, data: bytes) -> None:
    assert read(data) is None


def test_a_film_tells_its_size_rate_length_and_sound(film, noise) -> None:
    times = [n / 25 for n in range(50)]
    header = film_header(film(times, size=(96, 64), samples=noise(2.0, 16_000)))
    assert (header.codec, header.width, header.height) == ("h264", 96, 64)
    assert header.rate == pytest.approx(25, abs=0.6)
    assert header.seconds == pytest.approx(2.0, abs=0.1)
    assert (header.sound.codec, header.sound.rate, header.sound.channels) == ("aac", 16_000, 1)
    silent = film_header(film(times, format="avi", codec="mpeg4"))
    assert silent.sound is None
    assert silent.codec == "mpeg4"


def test_a_sound_tells_its_rate_channels_and_length(sound, noise) -> None:
    both = np.stack([noise(1.5, 8000)] * 2)
    assert sound_header(sound(both, rate=8000)) == SoundHeader("pcm_s16le", 8000, 2, 1.5)


def test_a_sound_is_no_film_and_a_film_without_sound_no_sound(film, sound, noise) -> None:
    assert film_header(sound(noise(1.0, 8000), rate=8000)) is None
    assert sound_header(film([0.0, 0.04])) is None
