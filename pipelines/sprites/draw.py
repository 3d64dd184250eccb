"""The pictures of a clip."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

KEY = 8  # frames from one planted key frame to the next
_BLUR = 0.004  # sides: by how much more each frame after a planted key frame is blurred
_OCTAVES = (3, 6, 12)  # cells a side of the ground's noise
_CONTRAST = 60.0  # grey levels

Pixels = npt.NDArray[np.uint8]


def draw_ground(random: np.random.Generator, size: int) -> Pixels:
    """Draw a textured background. [S, S, 3] uint8."""
    ground = np.zeros((size, size, 3), np.float32) + random.uniform(70, 185, 3).astype(np.float32)
    tint = random.uniform(0.5, 1.0, 3).astype(np.float32)
    for octave, cells in enumerate(_OCTAVES):
        noise = random.uniform(-1, 1, (cells, cells)).astype(np.float32)
        smooth = cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
        ground += (_CONTRAST / 2**octave) * smooth[..., None] * tint
    return np.clip(ground, 0, 255).astype(np.uint8)


def draw_frames(
    ground: Pixels,
    sprites: Sequence[Pixels],
    radii: Sequence[float],
    places: npt.NDArray[np.float64],
) -> Pixels:
    """Draw sprites over a background, to a fraction of a pixel.

    Args:
        ground: Background. [S, S, 3] uint8
        sprites: RGB times alpha, and alpha. N of [H, W, 4] uint8
        radii: Half of each sprite's longer side, in sides of the picture. N
        places: Centres, in sides of the picture; those in front come last. [T, N, 2]

    Returns:
        Frames. [T, S, S, 3] uint8
    """
    size = len(ground)
    frames = np.repeat(ground[None], len(places), axis=0)
    for number, (sprite, radius) in enumerate(zip(sprites, radii, strict=True)):
        scaled = _scaled(sprite, 2.0 * radius * size)
        for frame, (x, y) in zip(frames, places[:, number] * size, strict=True):
            _put(frame, scaled, x, y)
    return frames


def plant_keyframes(frames: Pixels) -> None:
    """Blur frames the more the longer their key frame is past, as a poor encoder does.

    It tells the direction of time from the pictures' sharpness alone: what a test of
    shortcuts has to find.

    Args:
        frames: Changed in place. [T, S, S, 3] uint8
    """
    for number, frame in enumerate(frames):
        if past := number % KEY:
            frame[:] = cv2.GaussianBlur(frame, (0, 0), _BLUR * (past + 1) * len(frame))


def _scaled(sprite: Pixels, longest: float) -> npt.NDArray[np.float32]:
    """A sprite of a wanted size with a transparent rim of a pixel. [H, W, 4] float32."""
    height, width = sprite.shape[:2]
    factor = longest / max(height, width)
    target = max(1, round(width * factor)), max(1, round(height * factor))
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(sprite, target, interpolation=method).astype(np.float32)
    return np.asarray(np.pad(resized, ((1, 1), (1, 1), (0, 0))), np.float32)


def _put(frame: Pixels, sprite: npt.NDArray[np.float32], x: float, y: float) -> None:
    """Draw a sprite, RGB times alpha and alpha, around a point in pixels."""
    height, width = sprite.shape[:2]
    left, top = x - width / 2.0, y - height / 2.0
    column, row = math.floor(left), math.floor(top)
    low_x, high_x = max(0, column), min(frame.shape[1], column + width)
    low_y, high_y = max(0, row), min(frame.shape[0], row + height)
    if low_x >= high_x or low_y >= high_y:
        return
    shift = np.array([[1, 0, left - column], [0, 1, top - row]], np.float32)
    moved = cv2.warpAffine(sprite, shift, (width, height))
    part = moved[low_y - row : high_y - row, low_x - column : high_x - column]
    under = frame[low_y:high_y, low_x:high_x]
    under[:] = under * (1.0 - part[..., 3:] / 255.0) + part[..., :3] + 0.5
