"""How a picture lies, which its EXIF or XMP says."""

from __future__ import annotations

from PIL import Image

_ORIENTATION = 0x0112
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


def upright(image: Image.Image) -> Image.Image:
    """Turn a picture as its metadata says.

    Raises:
        Exception: Its pixels are damaged.
    """
    image.load()  # first: damaged pixels are not damaged metadata
    turn = _TURNS.get(orientation(image))
    return image if turn is None else image.transpose(turn)
