"""Geometry and colour of a picture as one kernel of a GPU's. B samples, H x W pixels."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 512  # pixels of a program


@triton.jit  # type: ignore[untyped-decorator]
def _change(  # type: ignore[no-untyped-def]
    images, numbers, out, height, width, fill, border: tl.constexpr, block: tl.constexpr
):
    size = height * width
    blocks = (size + block - 1) // block
    # One axis: the others end at 65,535, and a batch may have more pictures.
    sample = (tl.program_id(0) // blocks).to(tl.int64)
    place = (tl.program_id(0) % blocks) * block + tl.arange(0, block)
    there = place < size
    numbers += sample * 18
    # Of [-1, 1], the middle of a pixel, as affine_grid has it.
    right = (2 * (place % width) + 1).to(tl.float32) / width - 1
    down = (2 * (place // width) + 1).to(tl.float32) / height - 1
    x = tl.load(numbers) * right + tl.load(numbers + 1) * down + tl.load(numbers + 2)
    y = tl.load(numbers + 3) * right + tl.load(numbers + 4) * down + tl.load(numbers + 5)
    x = ((x + 1) * width - 1) / 2
    y = ((y + 1) * height - 1) / 2
    if border:
        x = tl.minimum(tl.maximum(x, 0), width - 1)
        y = tl.minimum(tl.maximum(y, 0), height - 1)
    left, top = tl.floor(x), tl.floor(y)
    x, y = x - left, y - top
    # A number far outside would not fit an integer.
    left = tl.minimum(tl.maximum(left, -2), width).to(tl.int32)
    top = tl.minimum(tl.maximum(top, -2), height).to(tl.int32)
    west, east = (left >= 0) & (left < width) & there, (left >= -1) & (left < width - 1) & there
    north, south = (top >= 0) & (top < height), (top >= -1) & (top < height - 1)
    images += sample * 3 * size
    corner = images + top * width + left
    red = _between(corner, width, x, y, west, east, north, south, fill)
    green = _between(corner + size, width, x, y, west, east, north, south, fill)
    blue = _between(corner + 2 * size, width, x, y, west, east, north, south, fill)
    # Rows of the three channels in turn, for products of matrices along columns and rows.
    out += sample * 3 * size + (place // width) * (3 * width) + place % width
    numbers += 6
    for channel in tl.static_range(3):
        mixed = tl.load(numbers + 3 * channel) * red + tl.load(numbers + 3 * channel + 1) * green
        mixed += tl.load(numbers + 3 * channel + 2) * blue + tl.load(numbers + 9 + channel)
        mixed = tl.minimum(tl.maximum(mixed, 0), 1)
        tl.store(out + channel * width, mixed.to(out.dtype.element_ty), mask=there)


@triton.jit
def _between(corner, width, x, y, west, east, north, south, fill):  # type: ignore[no-untyped-def]
    """One channel, bilinear between four pixels; those outside the picture are ``fill``."""
    a = tl.load(corner, mask=west & north, other=fill)
    b = tl.load(corner + 1, mask=east & north, other=fill)
    c = tl.load(corner + width, mask=west & south, other=fill)
    d = tl.load(corner + width + 1, mask=east & south, other=fill)
    upper, lower = a + x * (b - a), c + x * (d - c)
    return upper + y * (lower - upper)


def change(
    images: Tensor, maps: Tensor, matrix: Tensor, offset: Tensor, fill: float | None
) -> Tensor:
    """Move pixels and mix their colours, see ``pipelines.augment._change``.

    Returns:
        Images in [0, 1], float16, which is exact to a sixteenth of a grey level, laid out as
        [B, H, 3, W]. [B, 3, H, W]
    """
    height, width = images.shape[2:]
    numbers = torch.cat([maps.flatten(1), matrix.flatten(1), offset], 1)
    out = torch.empty(len(images), height, 3, width, dtype=torch.float16, device=images.device)
    images = images.float().contiguous()
    grid = (triton.cdiv(height * width, _BLOCK) * len(images),)
    given = 0.0 if fill is None else fill
    with torch.cuda.device(
        images.device
    ):  # it starts on the current one, whoever its tensors are of
        _change[grid](
            images,
            numbers,
            out,
            height,
            width,
            given,
            border=fill is None,
            block=_BLOCK,
            num_warps=4,
        )
    return out.transpose(1, 2)
