from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pipelines.decode.errors import SampleError
from pipelines.decode.mask import decode_mask, figures


def png(numbers: np.ndarray, mode: str = "L", format: str = "PNG") -> bytes:
    image = Image.fromarray(numbers.astype(np.uint8))
    if mode == "P":
        image.putpalette([7 * n % 256 for n in range(768)])
    elif mode != "L":
        image = image.convert(mode)
    sink = io.BytesIO()
    image.save(sink, format)
    return sink.getvalue()


@pytest.mark.parametrize("mode", ["L", "P"])
def test_numbers_are_kept_and_the_centre_is_cut(mode):
    numbers = np.arange(6)[:, None] * np.ones((1, 10), int)
    numbers[:, :2] = numbers[:, -2:] = 255
    assert np.array_equal(decode_mask(png(numbers, mode), 6), numbers[:, 2:8])


@pytest.mark.parametrize("size", [3, 5, 12, 17])
def test_another_size_makes_no_new_numbers(size):
    numbers = np.where(np.arange(8)[:, None] < 4, 3, 200) * np.ones((1, 8), int)
    found = decode_mask(png(numbers), size)
    assert found.shape == (size, size)
    assert set(np.unique(found)) == {3, 200}
    assert (found[0] == 3).all()
    assert (found[-1] == 200).all()


@pytest.mark.parametrize("data", [b"", b"broken", png(np.zeros((4, 4)), format="BMP")])
def test_what_is_no_mask_is_refused(data):
    with pytest.raises(SampleError, match="not a readable mask"):
        decode_mask(data, 4)


def packed(numbers: np.ndarray, bits: int, palette: bool) -> bytes:
    """A PNG of fewer bits than Pillow writes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        content = name + data
        return struct.pack(">I", len(data)) + content + struct.pack(">I", zlib.crc32(content))

    height, width = numbers.shape
    kind = 3 if palette else 0
    # The last bits of each number, the highest first.
    each = np.unpackbits(numbers.astype(np.uint8)[..., None], axis=2)[..., 8 - bits :]
    rows = np.packbits(each.reshape(height, -1), axis=1)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)),
            chunk(b"PLTE", bytes(3 << bits)) if palette else b"",
            chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))),
            chunk(b"IEND", b""),
        ]
    )


@pytest.mark.parametrize("palette", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_numbers_of_fewer_bits_are_as_they_are_stored(bits, palette):
    side = 16
    numbers = np.arange(side * side).reshape(side, side) % (1 << bits)
    assert np.array_equal(decode_mask(packed(numbers, bits, palette), side), numbers)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "I;16"])
def test_pictures_of_colours_transparent_or_of_more_bits_are_no_masks(mode):
    expected = f"^a mask of mode {mode}; save it as a PNG of 8 bits, grey or with a palette$"
    with pytest.raises(SampleError, match=expected):
        decode_mask(png(np.zeros((4, 4)), mode), 4)


@pytest.mark.parametrize(
    "shape", [(60, 40), (120, 80), (30, 20), (17, 11), (18, 12), (16, 11), (3, 2), (961, 640)]
)
def test_a_mask_at_another_scale_is_of_its_pictures_shape(shape):
    width, height = shape
    numbers = np.where(np.arange(height)[:, None] < height / 2, 3, 4) * np.ones((1, width), int)
    assert set(np.unique(decode_mask(png(numbers), 16, (60, 40)))) == {3, 4}


@pytest.mark.parametrize("shape", [(40, 60), (1, 1), (40, 40), (64, 40), (60, 44), (1, 60)])
def test_a_mask_of_another_shape_than_its_picture_is_refused(shape):
    width, height = shape
    with pytest.raises(SampleError) as caught:
        decode_mask(png(np.zeros((height, width))), 16, (60, 40))
    assert str(caught.value) == (
        f"a mask of {width}x{height} pixels for a picture that is 60x40 upright; "
        "make them of one shape"
    )


def test_figures_on_white_are_of_their_class():
    images = np.full((2, 2, 2, 3), 255, np.uint8)
    images[0, 0, 0] = (255, 255, 200)
    images[1, 1, 1] = (250, 250, 250)
    found = figures(images, np.array([3, 4]), 245)
    assert found.tolist() == [[[3, 0], [0, 0]], [[0, 0], [0, 0]]]
