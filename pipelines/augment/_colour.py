"""One 3x4 matrix a sample for all linear colour changes. B samples, H x W pixels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.core.fused import fused

_LUMA = (0.299, 0.587, 0.114)


def identity(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Start of a composition: matrices [B, 3, 3] and offsets [B, 3]."""
    matrix = torch.eye(3, device=device).expand(count, 3, 3)
    return matrix, torch.zeros(count, 3, device=device)


def contrast(state: tuple[Tensor, Tensor], gain: Tensor) -> tuple[Tensor, Tensor]:
    """Stretch about middle grey. gain: [B]."""
    matrix, offset = state
    return matrix * gain[:, None, None], (offset - 0.5) * gain[:, None] + 0.5


def brightness(state: tuple[Tensor, Tensor], gain: Tensor) -> tuple[Tensor, Tensor]:
    """Multiply. gain: [B], or [B, 3] a channel."""
    matrix, offset = state
    gain = gain[:, None] if gain.dim() == 1 else gain
    return matrix * gain[:, :, None], offset * gain


def saturation(state: tuple[Tensor, Tensor], gain: Tensor) -> tuple[Tensor, Tensor]:
    """Blend with grey; 0 is grey, 1 leaves alone. gain: [B]."""
    eye = torch.eye(3, device=gain.device)
    # Numbers, not a tensor of them: to send one would wait for the device.
    grey = torch.stack([(1 - gain) * weight for weight in _LUMA], dim=-1)
    mixing = gain[:, None, None] * eye + grey[:, None]
    return _then(state, mixing)


def hue(state: tuple[Tensor, Tensor], turns: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate about the grey axis. turns: [B], 1 is a full turn."""
    angle = 2 * math.pi * turns
    cos, sin = torch.cos(angle), torch.sin(angle)
    third, root = (1 - cos) / 3, sin / math.sqrt(3)
    a, b, c = cos + third, third - root, third + root
    rows = [torch.stack(row, dim=-1) for row in ([a, b, c], [c, a, b], [b, c, a])]
    return _then(state, torch.stack(rows, dim=1))


def invert(state: tuple[Tensor, Tensor], chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Turn chosen samples into their negatives. chosen: [B] bool."""
    matrix, offset = state
    sign = torch.where(chosen, -1.0, 1.0)
    return matrix * sign[:, None, None], torch.where(chosen[:, None], 1 - offset, offset)


def _then(state: tuple[Tensor, Tensor], mixing: Tensor) -> tuple[Tensor, Tensor]:
    matrix, offset = state
    return mixing @ matrix, (mixing @ offset[:, :, None])[:, :, 0]


def recolour(images: Tensor, state: tuple[Tensor, Tensor]) -> Tensor:
    """Apply a composition. [B, 3, H, W] -> [B, 3, H, W], in [0, 1]."""
    matrix, offset = state
    flat = torch.baddbmm(offset[:, :, None], matrix, images.flatten(2))
    return flat.clamp_(0, 1).view(images.shape)


def blur(images: Tensor, sigma: Tensor, radius: int = 4) -> Tensor:
    """Gaussian blur with its own width for every sample.

    Args:
        images: [B, 3, H, W].
        sigma: Standard deviation in pixels; 0 leaves alone. [B]
        radius: Of the kernel, in pixels.
    """
    if images.device.type != "cpu":  # asking which are blurred would wait for the device
        return smooth(images, sigma, radius)
    chosen = sigma.nonzero()[:, 0]
    if not len(chosen):
        return images
    return images.index_copy(0, chosen, _blur(images[chosen], sigma[chosen], radius))


def _blur(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    reach = [min(radius, side - 1) for side in images.shape[2:]]  # mirrors have no more
    flat = images.reshape(1, -1, *images.shape[2:])
    flat = F.pad(flat, (reach[1], reach[1], reach[0], reach[0]), mode="reflect")
    down = _taps(sigma, reach[0])[:, None, :, None]
    across = _taps(sigma, reach[1])[:, None, None, :]
    flat = F.conv2d(flat, down, groups=len(down))
    flat = F.conv2d(flat, across, groups=len(across))
    return flat.view(images.shape)


def smooth(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Blur as two products of matrices, which a GPU has units for: [B, 3, H, W] float16.

    Every sample has its matrix, the identity where it is not blurred.
    """
    count, channels, height, width = images.shape
    across = _bands(sigma, width, radius)
    down = across if height == width else _bands(sigma, height, radius)
    rows = images.half().transpose(1, 2)
    rows = torch.bmm(down, rows.reshape(count, height, channels * width))
    rows = torch.bmm(rows.view(count, height * channels, width), across.mT)
    return rows.view(count, height, channels, width).transpose(1, 2)


@fused
def _bands(sigma: Tensor, size: int, radius: int) -> Tensor:
    """What of each pixel goes to each one along a line mirrored at its ends: [B, to, from].

    float16, whose steps are a sixteenth of a grey level at most.
    """
    reach = min(radius, size - 1)
    place = torch.arange(size, device=sigma.device)
    to, source = place[:, None], place[None]
    wide = sigma.clamp(min=1e-3)[:, None, None]

    def weight(distance: Tensor, there: Tensor) -> Tensor:
        return torch.where(there & (distance <= reach), _bell(distance, wide), 0.0)

    weights = weight((to - source).abs(), source >= 0)
    weights = weights + weight(to + source, source > 0)
    weights = weights + weight(2 * (size - 1) - to - source, source < size - 1)
    steps = torch.arange(-reach, reach + 1, device=sigma.device)
    return (weights / _bell(steps, wide).sum(2, keepdim=True)).half()


def _bell(distance: Tensor, sigma: Tensor) -> Tensor:
    return torch.exp(-0.5 * (distance / sigma) ** 2)


def _taps(sigma: Tensor, radius: int) -> Tensor:
    """Weights of a Gaussian that add up to 1, a row each channel: [B] -> [3B, 2 radius + 1]."""
    steps = torch.arange(-radius, radius + 1, device=sigma.device, dtype=sigma.dtype)
    weights = _bell(steps, sigma.clamp(min=1e-3)[:, None])
    return (weights / weights.sum(1, keepdim=True)).repeat_interleave(3, 0)
