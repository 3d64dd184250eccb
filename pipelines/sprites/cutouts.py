"""Sprites cut out of pictures on a white ground."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.decode.errors import SampleError
from pipelines.decode.image import EXTENSIONS, decode_image
from pipelines.decode.text import decode_field

_SIDE = 64  # pixels at which pictures are cut
_GROUND = 12  # grey levels by which a ground that was compressed differs from white
_LEAST = 0.35  # of its box that a sprite covers: thin ones cannot be told apart when small


@dataclass(frozen=True)
class Cutout:
    """A sprite.

    Attributes:
        name: What it shows.
        group: The kind of thing it is; empty where nobody said.
        pixels: RGB times alpha, and alpha. [H, W, 4] uint8
    """

    name: str
    group: str
    pixels: npt.NDArray[np.uint8]


def cut_out(members: Mapping[str, bytes]) -> Cutout | None:
    """Cut the sprite out of a picture with a caption.

    Args:
        members: Bytes by extension: a picture, ``txt``, and ``json`` with the ``group``.

    Returns:
        The sprite; None where the picture has none that is large enough, or is damaged.
    """
    data = next((members[name] for name in EXTENSIONS if name in members), None)
    try:
        if data is None or not (name := str(decode_field(members, "txt"))):
            return None
        image = decode_image(data, _SIDE)
        group = _group(members)
    except SampleError:
        return None
    alpha = _alpha(image)
    rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    if not len(rows):
        return None
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    image, alpha = image[box], alpha[box]
    if alpha.mean() < _LEAST * 255:
        return None
    colours = (image * (alpha[..., None] / 255.0) + 0.5).astype(np.uint8)
    return Cutout(name, group, np.dstack([colours, alpha]))


def _group(members: Mapping[str, bytes]) -> str:
    try:
        return str(decode_field(members, "json.group"))
    except SampleError:
        return ""


def _alpha(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """What cannot be reached from outside over white. [H, W] uint8."""
    white = (255, 255, 255)
    framed = cv2.copyMakeBorder(image, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=white)
    ground = np.zeros((framed.shape[0] + 2, framed.shape[1] + 2), np.uint8)
    flags = 4 | cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE | (255 << 8)
    cv2.floodFill(framed, ground, (0, 0), 0, (_GROUND,) * 3, (_GROUND,) * 3, flags)
    # The outermost pixels are half white: without them no sprite has a bright rim.
    inner = cv2.erode(255 - ground[2:-2, 2:-2], np.ones((3, 3), np.uint8))
    soft: npt.NDArray[np.uint8] = cv2.blur(inner, (3, 3), borderType=cv2.BORDER_REPLICATE)
    return soft
