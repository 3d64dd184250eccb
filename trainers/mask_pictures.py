"""Masks as pictures for reports. H x W pixels, C classes."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.decode.mask import UNCOUNTED
from trainers.core.evaluation import Cell, GalleryRow
from trainers.core.pictures import png
from trainers.gallery import picture, shrunk

_GOLDEN = 0.618034  # of a circle of hues: neighbours in number are far apart in colour
_LIGHT = (0.95, 0.7, 0.5)
_NAMED = 0.02  # of the pixels, from which on a class is named
_NAMES = 3
Mask = npt.NDArray[np.uint8]


def coloured(mask: Mask) -> npt.NDArray[np.uint8]:
    """Give each class a colour of its own; the first is grey, and what does not count white.

    Args:
        mask: Class numbers. [H, W] uint8

    Returns:
        [H, W, 3] uint8
    """
    return np.asarray(_COLOURS[mask], np.uint8)


def _colour(number: int) -> tuple[float, float, float]:
    light = _LIGHT[number % len(_LIGHT)]
    return colorsys.hsv_to_rgb(number * _GOLDEN % 1.0, 0.65, light)


_COLOURS = np.array([_colour(number) for number in range(256)])
_COLOURS[0], _COLOURS[UNCOUNTED] = 0.85, 1.0
_COLOURS = (255 * _COLOURS).round().astype(np.uint8)


def mask_rows(
    images: npt.NDArray[np.uint8],
    labelled: Iterable[Mask],
    found: Iterable[Mask],
    classes: Sequence[str],
) -> tuple[GalleryRow, ...]:
    """Make rows of a picture, its mask as labelled, and its mask as found.

    Args:
        images: [N, H, W, 3] uint8
        labelled: N masks; numbers from C on are of classes that nothing was learned of.
        found: N masks.
        classes: Names of the numbers.
    """
    return tuple(
        GalleryRow(
            group="as labelled, and as found",
            cells=(picture(image), _cell(truth, classes), _cell(said, classes)),
        )
        for image, truth, said in zip(images, labelled, found, strict=True)
    )


def _cell(mask: Mask, classes: Sequence[str]) -> Cell:
    counted = np.minimum(mask[mask != UNCOUNTED], len(classes))
    numbers, counts = np.unique(counted, return_counts=True)
    often = sorted(zip(counts.tolist(), numbers.tolist(), strict=True), reverse=True)
    named = [*classes, "unknown"]
    names = [named[number] for count, number in often[:_NAMES] if count >= _NAMED * mask.size]
    # Shrunk before it is coloured: between two classes there is no third one.
    shown = cv2.resize(mask, shrunk(mask), interpolation=cv2.INTER_NEAREST_EXACT)
    return Cell(image=png(coloured(np.asarray(shown, np.uint8))), text=", ".join(names))
