"""Views of the image."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from pipelines.augment import AUGMENTATIONS
from pipelines.core import Config
from pipelines.views.rows import Rows, normalise, pixels
from pipelines.views.view import View, ViewSpec

STREAM = 16
"""Streams from here on are the augmentations', so that objectives have those below."""
IMAGES = "images: set data.decode.size"


class ImageView(View):
    """One augmented rendering of the image ([B, 3, H, W] float32 in [-1, 1]).

    Attributes:
        augmentation: Config of that family.
        stream: Views with different numbers draw different random numbers.
    """

    augmentation: Config
    stream: int = 0

    def maker(self) -> Callable[[Rows], Tensor]:
        """Build the augmentation."""
        augment = AUGMENTATIONS.build(self.augmentation)

        def make(rows: Rows) -> Tensor:
            images = rows.once("images", lambda: _images(rows))
            return normalise(augment(rows.repeated(images), rows.device_keys, STREAM + self.stream))

        return make


def two_views(augmentation: Config) -> ViewSpec:
    """Views ``a`` and ``b`` of an image by one augmentation, with independent numbers."""
    return {
        "a": ImageView(augmentation=augmentation, stream=0),
        "b": ImageView(augmentation=augmentation, stream=1),
    }


def _images(rows: Rows) -> Tensor:
    return pixels(rows.pictures("image", 1, IMAGES)[:, 0])
