"""Drawn pictures that cost a decoder what photographs do: for those who have none at hand."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

_QUALITY = 90
_PER_SHARD = 512


def draw(seed: int) -> npt.NDArray[np.uint8]:
    """A picture with a photograph's spectrum: soft shapes, edges, texture and grain.

    Returns:
        About 450x335 pixels, RGB. [H, W, 3] uint8
    """
    random = np.random.default_rng(seed)
    width = int(random.integers(420, 481))
    height = int(width * 0.744)
    picture = np.zeros((height, width, 3), np.float32)
    for cells in (3, 8, 24, 80):
        noise = random.normal(0, 90 / cells**0.5, (cells, cells, 3)).astype(np.float32)
        picture += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(12):
        centre = random.integers(0, width, 2)
        axes = random.integers(10, 90, 2)
        colour = tuple(float(c) for c in random.normal(0, 70, 3))
        layer = np.zeros_like(picture)
        cv2.ellipse(layer, centre.tolist(), axes.tolist(), 0, 0, 360, colour, -1, cv2.LINE_AA)
        picture += layer
    picture += random.normal(128, 4, picture.shape)
    return picture.clip(0, 255).astype(np.uint8)


def jpeg(seed: int) -> bytes:
    """A drawn picture as JPEG, of about 45 KiB."""
    sink = io.BytesIO()
    Image.fromarray(draw(seed)).save(sink, "JPEG", quality=_QUALITY)
    return sink.getvalue()


def write_photographs(folder: Path, count: int, distinct: int = 512) -> str:
    """Write tars of drawn pictures.

    Args:
        folder: Where to.
        count: Samples.
        distinct: Pictures that are drawn; they take turns.

    Returns:
        Their URL pattern.
    """
    pictures = [jpeg(number) for number in range(min(count, distinct))]
    for first in range(0, count, _PER_SHARD):
        with tarfile.open(folder / f"photographs-{first // _PER_SHARD:05d}.tar", "w") as tar:
            for number in range(first, min(first + _PER_SHARD, count)):
                data = pictures[number % distinct]
                info = tarfile.TarInfo(f"{number:08d}.jpg")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return f"{folder}/photographs-*.tar"
