"""The pictures of a clip."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

KEY = 32  # frames from one planted key frame to the next
_BLUR = 0.001  # sides: by how much more each frame after a planted key frame is blurred
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
    frames = np.repeat(ground[None].astype(np.float32), len(places), axis=0)
    for number, (sprite, radius) in enumerate(zip(sprites, radii, strict=True)):
        _put(frames, _scaled(sprite, 2.0 * radius * size), places[:, number] * size)
    return (frames + 0.5).astype(np.uint8)


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
    resized = cv2.resize(sprite, target, interpolation=method)
    return np.asarray(np.pad(resized, ((1, 1), (1, 1), (0, 0))), np.float32)


def _put(
    frames: npt.NDArray[np.float32],
    sprite: npt.NDArray[np.float32],
    places: npt.NDArray[np.float64],
) -> None:
    """Draw a sprite, RGB times alpha and alpha, around a point of each frame.

    Args:
        frames: Changed in place. [T, S, S, 3] float32
        sprite: [H, W, 4] float32
        places: In pixels. [T, 2]
    """
    size = frames.shape[1]
    extent = np.array(sprite.shape[1::-1])
    corner = places - extent / 2.0
    whole = np.floor(corner).astype(np.int64)
    shown = np.flatnonzero(((whole < size) & (whole + extent > 0)).all(axis=1))
    shifts = (corner - whole)[shown].astype(np.float32)
    colours = _moved(sprite[..., :3], shifts)
    kept = 1.0 - _moved(np.repeat(sprite[..., 3:] / 255.0, 3, axis=2), shifts)
    low, high = np.maximum(0, whole), np.minimum(size, whole + extent)
    boxes = np.concatenate([low, high, low - whole, high - whole], axis=1)[shown].tolist()
    for frame, colour, keep, box in zip(shown, colours, kept, boxes, strict=True):
        left, top, right, bottom, column, row, columns, rows = box
        under = frames[frame, top:bottom, left:right]
        under *= keep[row:rows, column:columns]
        under += colour[row:rows, column:columns]


def _moved(
    sprite: npt.NDArray[np.float32], shifts: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Move a sprite by fractions of a pixel, to the right and down, by linear interpolation.

    Args:
        sprite: With a rim of zeros. [H, W, 3]
        shifts: x and y, from 0 to 1. [K, 2]

    Returns:
        [K, H, W, 3]
    """
    x, y = shifts.T[..., None, None, None]
    left = np.zeros_like(sprite)
    left[:, 1:] = sprite[:, :-1]
    moved = sprite + x * (left - sprite)
    moved[:, 1:] += y * (moved[:, :-1] - moved[:, 1:])
    return np.asarray(moved, np.float32)
