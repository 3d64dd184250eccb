"""CIE L*a*b* (D65, 2 degrees) from sRGB and back, and the bins of its colours.

L* lies in [0, 100], a* and b* of sRGB colours in about [-108, 99].
"""

from __future__ import annotations

import torch
from torch import Tensor

# IEC 61966-2-1: rows X, Y and Z.
_TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
_EDGE = 6 / 29
_SAMPLES = 65  # 129 find the same bins of 10; 1025 find one more, which colours barely touch


def rgb_to_lab(images: Tensor) -> Tensor:
    """Convert from sRGB in [0, 1]. [B, 3, H, W] -> [B, 3, H, W]."""
    linear = torch.where(
        images <= 0.04045, images / 12.92, ((images.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    )
    x, y, z = _mix(_matrix(images), linear).unbind(1)
    f = torch.stack([x, y, z])
    f = torch.where(f > _EDGE**3, f.clamp(min=_EDGE**3) ** (1 / 3), f / (3 * _EDGE**2) + 4 / 29)
    return torch.stack([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])], 1)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """Convert to sRGB in [0, 1]; colours it does not have are clipped. [B, 3, H, W]."""
    middle = (lab[:, 0] + 16) / 116
    f = torch.stack([middle + lab[:, 1] / 500, middle, middle - lab[:, 2] / 200], 1)
    xyz = torch.where(f > _EDGE, f**3, 3 * _EDGE**2 * (f - 4 / 29))
    linear = _mix(torch.linalg.inv(_matrix(lab)), xyz).clamp(0, 1)
    curved = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, 12.92 * linear, curved).clamp(0, 1)


def _matrix(like: Tensor) -> Tensor:
    # A row's sum is the white point's value; relative to it, white is (1, 1, 1).
    matrix = like.new_tensor(_TO_XYZ)
    normalised: Tensor = matrix / matrix.sum(1, keepdim=True)
    return normalised


def _mix(matrix: Tensor, images: Tensor) -> Tensor:
    # A matrix product would be rounded to bf16 under autocast; a sum of products is not.
    mixed: Tensor = (matrix[None, :, :, None, None] * images[:, None]).sum(2)
    return mixed


def ab_bins(step: int) -> Tensor:
    """Bins of a* and b* that hold the colour of some sRGB value.

    Args:
        step: Side of a bin.

    Returns:
        Centres, in order of a* then b*. [Q, 2] int64
    """
    levels = torch.linspace(0, 1, _SAMPLES, dtype=torch.float64)
    colours = torch.cartesian_prod(levels, levels, levels)
    # From any colour, a change of lightness alone leads to the cube's surface.
    colours = colours[((colours == 0) | (colours == 1)).any(1)]
    ab = rgb_to_lab(colours[:, :, None, None])[:, 1:, 0, 0]
    bins: Tensor = torch.unique((ab / step).round().long(), dim=0)
    return bins * step


def soft_bins(ab: Tensor, bins: Tensor, neighbours: int, sigma: float) -> Tensor:
    """Share each colour out among its nearest bins, by a Gaussian of the distance.

    Args:
        ab: a* and b* of N colours. [N, 2]
        bins: Centres. [Q, 2]
        neighbours: How many bins take a share.
        sigma: Width of the Gaussian.

    Returns:
        Shares, the largest at the nearest bin; each row sums to 1. [N, Q]
    """
    squares = (ab[:, None, :] - bins).square().sum(2)
    near, places = squares.topk(neighbours, dim=1, largest=False)
    shares = torch.softmax(-near / (2 * sigma**2), dim=1)
    return torch.zeros_like(squares).scatter(1, places, shares)
