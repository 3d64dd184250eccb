"""Counter-based random numbers: a sample's numbers depend on what it is, not on who draws them.

A key is a 64-bit hash of (seed, epoch, sample). From a key, any number of
independent streams of uniform numbers follow, on any device, in any order:
SplitMix64 (Steele, Lea and Flood, 2014) applied to key and counter.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pipelines.core.fused import fused

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as int64
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)  # int64 shifts arithmetically: mask the sign


def mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser, elementwise on int64 (wrapping)."""
    x = x + _GOLDEN
    x = (x ^ _shift(x, 30)) * _MIX_1
    x = (x ^ _shift(x, 27)) * _MIX_2
    return x ^ _shift(x, 31)


def sample_keys(seed: int, epochs: Tensor, samples: Tensor) -> Tensor:
    """Keys of samples.

    Args:
        seed: The run's seed.
        epochs: Epoch of each sample. [B] int64
        samples: Number of each sample. [B] int64

    Returns:
        Keys. [B] int64
    """
    start = mix(torch.full_like(samples, seed))
    return mix(mix(start ^ epochs) ^ samples)


def part_keys(keys: Tensor, count: int) -> Tensor:
    """A key for each part (patch, frame) of each sample. [B] int64 -> [B, count] int64."""
    return mix(keys[:, None] ^ mix(torch.arange(count, device=keys.device)))


def repeat_keys(keys: Tensor, count: int) -> Tensor:
    """A key for each time that a sample is seen, the first its own. [B] int64 -> [B, count]."""
    return torch.cat([keys[:, None], part_keys(mix(keys), count)[:, 1:]], 1)


def uniform(keys: Tensor, stream: int, count: int) -> Tensor:
    """Uniform numbers in [0, 1).

    Args:
        keys: Keys. [B] int64
        stream: Number of the stream: another one gives independent numbers.
        count: How many numbers a key gets.

    Returns:
        Numbers, the same on every device. [B, count] float32
    """
    counters = torch.arange(count, device=keys.device, dtype=torch.int64)
    return _uniform(keys, mix(counters + (stream << 32)))


@fused
def _uniform(keys: Tensor, offsets: Tensor) -> Tensor:
    bits = mix(keys[:, None] ^ offsets[None, :])
    return _shift(bits, 40).to(torch.float32) * (1.0 / (1 << 24))


def normal(keys: Tensor, stream: int, count: int) -> Tensor:
    """Standard normal numbers by the Box-Muller transform. [B, count] float32."""
    u = uniform(keys, stream, 2 * count)
    radius = torch.sqrt(-2.0 * torch.log1p(-u[:, :count]))
    return radius * torch.cos(2.0 * math.pi * u[:, count:])


def integers(keys: Tensor, stream: int, high: int | Tensor) -> Tensor:
    """One whole number in [0, high) a key; high is one for all or one each. [B] int64."""
    return (uniform(keys, stream, 1)[:, 0] * high).to(torch.int64).clamp_(max=high - 1)
