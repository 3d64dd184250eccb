"""Masks: a class for each pixel."""

from __future__ import annotations

import io

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from pipelines.decode.errors import SampleError, reading
from pipelines.decode.image import check_pixels
from pipelines.decode.resize import centre

_TOGETHER = 1024  # pictures looked at together
_PART = 8  # of the width over the height by which a mask's may differ from its picture's
_SPREAD = {"L;2": 85, "L;4": 17}  # Pillow spreads grey of fewer bits from 0 to 255
UNCOUNTED = 255
"""Number of pixels that are of no class and do not count, as in PASCAL VOC."""


def decode_mask(
    data: bytes, size: int, picture: tuple[int, int] | None = None
) -> npt.NDArray[np.uint8]:
    """Decode a mask, cut as ``decode_image`` cuts the picture, without new numbers in between.

    Args:
        data: A PNG of up to 8 bits, grey or with a palette, whose numbers are classes.
        size: Side of the square, in pixels.
        picture: Width and height of what it is a mask of, upright, whose shape it must have,
            at any scale.

    Returns:
        Numbers. [size, size] uint8

    Raises:
        SampleError: Not a PNG, of another kind or shape, or too large.
    """
    with reading("mask"):
        image = Image.open(io.BytesIO(data), formats=("PNG",))
        check_pixels(image.width, image.height)
        if picture is not None:
            _check_shape(image.size, picture)
        if image.mode not in ("1", "L", "P"):
            raise SampleError(
                f"a mask of mode {image.mode}; save it as a PNG of 8 bits, grey or with a palette"
            )
        spread = _SPREAD.get(str(image.tile[0].args), 1)
        numbers = centre(np.asarray(image, dtype=np.uint8) // spread)
        nearest = cv2.INTER_NEAREST_EXACT
        return np.asarray(cv2.resize(numbers, (size, size), interpolation=nearest), np.uint8)


def _check_shape(mask: tuple[int, int], picture: tuple[int, int]) -> None:
    """Refuse what no resizing makes of the picture: rounding moves a side by up to a pixel."""
    (width, height), (wide, high) = mask, picture
    # Where a pixel is much of a side, almost every shape would be another's rounding.
    allowed = min(max(width + height, wide + high), width * high // _PART)
    if abs(width * high - height * wide) > allowed:
        raise SampleError(
            f"a mask of {width}x{height} pixels for a picture that is {wide}x{high} upright; "
            "make them of one shape"
        )


def figures(
    images: npt.NDArray[np.uint8], classes: npt.NDArray[np.int64], white: int
) -> npt.NDArray[np.uint8]:
    """Masks of drawings on white: what is not white is of the drawing's class.

    Args:
        images: [N, H, W, 3] uint8
        classes: Of each drawing, from 1 on; 0 is the background. [N]
        white: From which value of all three channels on a pixel is background.

    Returns:
        [N, H, W] uint8
    """
    out = np.zeros(images.shape[:3], np.uint8)
    for start in range(0, len(images), _TOGETHER):
        shown = (images[start : start + _TOGETHER] < white).any(3)
        numbers = classes[start : start + _TOGETHER].astype(np.uint8)
        np.multiply(shown, numbers[:, None, None], out=out[start : start + _TOGETHER])
    return out
