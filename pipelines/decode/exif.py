"""How a picture lies, which its EXIF or XMP says."""

from __future__ import annotations

import io
import warnings

from PIL import Image

from pipelines.decode.errors import reading

_ORIENTATION = 0x0112
_HEAD = 1 << 16  # the first metadata segment of a JPEG ends within it
_OF_PNG = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")  # in chunks anywhere
SIDEWAYS = (5, 6, 7, 8)
"""Orientations that swap width and height."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(image: Image.Image) -> int:
    """How a picture lies, 1 to 8; 1, which is upright, where that is missing or damaged.

    Args:
        image: An open picture. Pixels of a PNG without EXIF before them are decoded.
    """
    try:
        found = image.getexif().get(_ORIENTATION, 1)
        return int(found) if found in range(1, 9) else 1
    except Exception:  # damaged metadata raises anything, and says nothing of the pixels
        return 1


def of_jpeg(data: bytes) -> int:
    """How a JPEG lies, 1 to 8.

    Raises:
        Exception: It is no JPEG.
    """
    # Opening by Pillow takes a third as long as decoding; most files have neither mark.
    head = data[:_HEAD]
    if b"Exif\0" not in head and b"tiff:Orientation" not in head:
        return 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged metadata
        return orientation(Image.open(io.BytesIO(data), formats=("JPEG",)))


def upright(image: Image.Image) -> Image.Image:
    """Turn a picture as its metadata says.

    Raises:
        Exception: Its pixels are damaged.
    """
    image.load()  # first: damaged pixels are not damaged metadata
    turn = _TURNS.get(orientation(image))
    return image if turn is None else image.transpose(turn)


def upright_size(data: bytes) -> tuple[int, int]:
    """Width and height of a JPEG, PNG or WebP as it is shown.

    Raises:
        SampleError: It has no header that can be read.
    """
    with reading("image"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged metadata; nothing is allocated by the size
        image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP"))
        width, height = image.size
        if image.format == "JPEG":
            lies = of_jpeg(data)
        else:  # pixels of a PNG are decoded only where something may tell to turn it
            plain = image.format == "PNG" and not any(mark in data for mark in _OF_PNG)
            lies = 1 if plain else orientation(image)
        return (height, width) if lies in SIDEWAYS else (width, height)
