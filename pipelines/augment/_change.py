"""Geometry and colour of a picture in one pass."""

from __future__ import annotations

from torch import Tensor

from pipelines.augment import _colour as colour
from pipelines.augment import _geometry as geometry
from pipelines.core.fused import lacks


def change(
    images: Tensor, maps: Tensor, matrix: Tensor, offset: Tensor, fill: float | None
) -> Tensor:
    """Move pixels and mix their colours.

    Args:
        images: [B, 3, H, W]
        maps: Output-to-input maps. [B, 2, 3]
        matrix: Of colours. [B, 3, 3]
        offset: Of colours. [B, 3]
        fill: Value outside the image; None repeats its border.

    Returns:
        Images in [0, 1]; float16 where a GPU's kernel makes them. [B, 3, H, W]
    """
    if images.is_cuda and not lacks():
        from pipelines.augment import _kernel  # needs triton

        return _kernel.change(images, maps, matrix, offset, fill)
    return colour.recolour(geometry.resample(images, maps, fill), (matrix, offset))
