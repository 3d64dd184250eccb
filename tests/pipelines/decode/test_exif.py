from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from pipelines.decode.errors import SampleError
from pipelines.decode.exif import orientation, upright, upright_size
from pipelines.decode.image import decode_image
from pipelines.inspection.headers import picture_header
from pipelines.inspection.thumbnails import picture_thumbnail

FORMATS = ["JPEG", "PNG", "WEBP"]


def tagged(kind: int, number: int, value: bytes, beyond: bytes = b"") -> bytes:
    """EXIF that holds an orientation alone, of any type."""
    entry = struct.pack("<HHI", 0x0112, kind, number) + value
    return b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + bytes(4) + beyond


DAMAGED = {
    "not TIFF": b"Exif\0\0GARBAGEGARBAGE",
    "zeros": b"Exif\0\0" + bytes(20),
    "cut off": b"Exif\0\0II*\0\x08\0\0\0\x40\0\x12\x01",
    "beyond its end": b"Exif\0\0II*\0\xff\xff\xff\x7f",
    "a text": tagged(2, 4, b"top\0"),
    "an empty text": tagged(2, 1, bytes(4)),
    "undefined": tagged(7, 1, b"\x06\0\0\0"),
    "no fraction": tagged(5, 1, struct.pack("<I", 26), bytes(8)),
    "0": tagged(3, 1, struct.pack("<HH", 0, 0)),
    "9": tagged(3, 1, struct.pack("<HH", 9, 0)),
}

SIX = struct.pack("<II", 6, 1)
WHOLE = [tagged(3, 1, SIX[:4]), tagged(4, 1, SIX[:4]), tagged(5, 1, struct.pack("<I", 26), SIX)]


def picture(format: str, **options: object) -> bytes:
    sink = io.BytesIO()
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:20] = 255
    Image.fromarray(pixels).save(sink, format, **options)
    return sink.getvalue()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("exif", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.filterwarnings("ignore")
def test_a_picture_with_a_damaged_orientation_is_upright(format, exif):
    data, plain = picture(format, exif=exif), picture(format)
    assert data != plain
    assert orientation(Image.open(io.BytesIO(data))) == 1
    assert np.array_equal(decode_image(data, 16), decode_image(plain, 16))
    assert picture_header(data) == picture_header(plain)
    assert upright_size(data) == (60, 40)
    assert picture_thumbnail(data).data == picture_thumbnail(plain).data


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("exif", WHOLE)
def test_a_whole_number_of_any_type_is_an_orientation(format, exif):
    data = picture(format, exif=exif)
    assert orientation(Image.open(io.BytesIO(data))) == 6
    assert upright(Image.open(io.BytesIO(data))).size == (40, 60)
    assert decode_image(data, 16)[8, 2].max() < 40  # the lower half is to the left
    assert picture_header(data).rotated
    assert upright_size(data) == (40, 60)


def test_damaged_pixels_are_not_taken_for_damaged_metadata():
    with pytest.raises(OSError, match=r".+"):
        upright(Image.open(io.BytesIO(picture("PNG")[:-40])))


def test_a_png_whose_exif_follows_its_pixels_is_measured_upright():
    whole = picture("PNG", exif=WHOLE[0])
    start = whole.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(whole[start : start + 4], "big")
    late = whole[:start] + whole[end:-12] + whole[start:end] + whole[-12:]
    assert "exif" not in Image.open(io.BytesIO(late)).info
    assert np.array_equal(decode_image(late, 16), decode_image(whole, 16))
    assert upright_size(late) == (40, 60)


@pytest.mark.parametrize("data", [b"", b"x" * 100, b"\xff\xd8\xff", b"GIF89a"])
def test_what_is_no_picture_has_no_size(data):
    with pytest.raises(SampleError, match="not a readable image"):
        upright_size(data)
