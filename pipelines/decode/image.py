"""Images: JPEG, PNG and WebP bytes to square RGB arrays."""

from __future__ import annotations

import io
import warnings

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from pipelines.decode.errors import SampleError, reading
from pipelines.decode.exif import of_jpeg, upright
from pipelines.decode.resize import square

MAX_PIXELS = 64_000_000  # a larger picture is refused before it is decoded
MAX_SCANS = 200  # of a progressive JPEG: each costs a pass over the whole picture
EXTENSIONS = ("jpg", "jpeg", "png", "webp")
_SIDE = 0x3FFF  # the bits of a side of a WebP

Pixels = npt.NDArray[np.uint8]

# Readers are processes, one a core: threads inside of one would only compete.
cv2.setNumThreads(1)


def decode_image(data: bytes, size: int) -> Pixels:
    """Decode an image, resize its shorter side and crop its centre.

    Args:
        data: JPEG, PNG or WebP bytes.
        size: Side of the square, in pixels.

    Returns:
        RGB, alpha over white, orientation applied. [size, size, 3] uint8

    Raises:
        ValueError: Not an image, of another format, or larger than ``MAX_PIXELS``.
    """
    out = np.empty((size, size, 3), np.uint8)
    decode_image_into(data, out)
    return out


def decode_image_into(data: bytes, out: Pixels) -> None:
    """Decode an image as ``decode_image`` does, into a row of a batch.

    Args:
        data: JPEG, PNG or WebP bytes.
        out: Where to; contiguous. [S, S, 3] uint8

    Raises:
        ValueError: As ``decode_image``.
    """
    with reading("image"):
        jpeg = data.startswith(b"\xff\xd8\xff")
        image = _jpeg(data, len(out)) if jpeg else _webp(data)
        square(_any(data) if image is None else image, out)


def check_pixels(width: int, height: int) -> None:
    """Refuse what is too large to decode.

    Raises:
        SampleError: More than ``MAX_PIXELS``.
    """
    if width * height > MAX_PIXELS:
        raise SampleError(f"{width}x{height} pixels is too large")


def _jpeg(data: bytes, size: int) -> Pixels | None:
    """Decode a common JPEG, where it is much larger than asked at a fraction of its size.

    Returns:
        Upright RGB [H, W, 3] uint8, or None where Pillow shall decide: other
        colours than grey and YCbCr, or a fault that it may know to repair.
    """
    baseline, metadata = _segments(data)
    if not baseline and (scans := data.count(b"\xff\xda")) > MAX_SCANS:
        raise SampleError(f"a JPEG of {scans} scans is too slow to decode")
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        check_pixels(width, height)
        if colours not in ("YCbCr", "Gray"):
            return None
        shrink = _shrink(min(height, width), size)
        image: Pixels = simplejpeg.decode_jpeg(
            data,
            min_height=-(-height // shrink),
            min_width=-(-width // shrink),
            min_factor=shrink,
        )
    except SampleError:
        raise
    except ValueError:
        return None
    return _upright(image, of_jpeg(data)) if metadata else image


def _segments(data: bytes) -> tuple[bool, bool]:
    """Whether a JPEG is baseline for certain, and whether it has metadata before its picture.

    Looking for marks in all of the data would take a twentieth of the decoding.
    """
    at, metadata = 2, False
    while at + 4 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if kind in (0xC0, 0xC1):
            return True, metadata
        if not (0xE0 <= kind <= 0xEF or kind in (0xDB, 0xC4, 0xDD, 0xFE)):
            break
        metadata |= kind == 0xE1
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False, True


def _shrink(side: int, size: int) -> int:
    # Powers of two only: libjpeg's other fractions are slower and less exact.
    return next((factor for factor in (8, 4, 2) if side >= factor * size), 1)


def _upright(image: Pixels, lies: int) -> Pixels:
    """Apply an EXIF orientation, 1 to 8, to a view."""
    if lies in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if lies in (3, 4, 7, 8):
        image = image[::-1]
    if lies in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image


def _webp(data: bytes) -> Pixels | None:
    """Decode a plain WebP, which Pillow takes for a film: half as long again for a small picture.

    Returns:
        RGB [H, W, 3] uint8, or None where Pillow shall decide: transparent, with metadata,
        really a film, damaged, or no WebP.
    """
    kind = data[12:16]
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    if kind == b"VP8 ":
        width, height = (int.from_bytes(data[at : at + 2], "little") & _SIDE for at in (26, 28))
    elif kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        if bits >> 28 & 1:  # transparent
            return None
        width, height = (bits & _SIDE) + 1, (bits >> 14 & _SIDE) + 1
    else:
        return None
    check_pixels(width, height)
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def _any(data: bytes) -> Pixels:
    """Decode by Pillow, which knows every kind of file. Upright RGB [H, W, 3] uint8."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged metadata; large sizes have a bound below
        image: Image.Image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP"))
        check_pixels(image.width, image.height)
        return np.asarray(_upright_rgb(image), dtype=np.uint8)


def _upright_rgb(image: Image.Image) -> Image.Image:
    image = upright(image)
    if image.mode.startswith("I;16"):  # 16-bit grey: convert() would clip, not scale
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
