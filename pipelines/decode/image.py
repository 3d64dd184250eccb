"""Images: JPEG, PNG and WebP bytes to square RGB arrays."""

from __future__ import annotations

import io
import warnings

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

MAX_PIXELS = 64_000_000  # a larger picture is refused before it is decoded
EXTENSIONS = ("jpg", "jpeg", "png", "webp")


def decode_image(data: bytes, size: int) -> npt.NDArray[np.uint8]:
    """Decode an image, resize its shorter side and crop its centre.

    Args:
        data: JPEG, PNG or WebP bytes.
        size: Side of the square, in pixels.

    Returns:
        RGB, alpha over white, orientation applied. [size, size, 3] uint8

    Raises:
        ValueError: Not an image, of another format, or larger than ``MAX_PIXELS``.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata; large sizes have a bound below
            image: Image.Image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP"))
            too_large = image.width * image.height > MAX_PIXELS
            image = image if too_large else _upright_rgb(image)
    except Exception as error:  # damaged bytes raise anything: struct.error, AttributeError, ...
        raise ValueError(f"not a readable image ({type(error).__name__})") from None
    if too_large:
        raise ValueError(f"{image.width}x{image.height} pixels is too large")
    return _square(np.asarray(image, dtype=np.uint8), size)


def _upright_rgb(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # 16-bit grey: convert() would clip, not scale
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _square(image: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    crop = image[top : top + side, left : left + side]
    method = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(crop, (size, size), interpolation=method), dtype=np.uint8)
