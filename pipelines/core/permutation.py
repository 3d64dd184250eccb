"""Hashes and permutations of whole numbers that are computed one by one, without tables."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_ROUNDS = 6  # of the network: 4 make a pseudo-random permutation (Luby and Rackoff, 1988)


def mix(x: Hashes) -> Hashes:
    """SplitMix64's finaliser; the same numbers as ``randomness.mix`` and in every version."""
    with np.errstate(over="ignore"):
        x = x + _GOLDEN
        x = (x ^ (x >> np.uint64(30))) * _MIX_1
        x = (x ^ (x >> np.uint64(27))) * _MIX_2
        return x ^ (x >> np.uint64(31))


def fold(words: tuple[int, ...]) -> Hashes:
    """Hash some words into one. [1] uint64."""
    state, *rest = (np.array([word], dtype=np.int64).astype(np.uint64) for word in words)
    state = mix(state)
    for word in rest:
        state = mix(state ^ word)
    return state


def hashes(words: tuple[int, ...], numbers: Numbers) -> Hashes:
    """Hash every number together with some words. [K] int64 -> [K] uint64."""
    return mix(fold(words) ^ numbers.astype(np.uint64))


def permute(places: Numbers, size: int, words: tuple[int, ...]) -> Numbers:
    """Numbers at some places of a pseudo-random permutation of ``range(size)``.

    A Feistel network over the next power of four; what falls outside the range
    walks on until it is inside (Black and Rogaway, 2002, "Ciphers with Arbitrary
    Finite Domains").

    Args:
        places: Places, each in [0, size). [K] int64
        size: Of the permutation.
        words: What the permutation depends on.

    Returns:
        Numbers in [0, size). [K] int64
    """
    half = np.uint64(max(1, (max(size - 1, 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half)) - 1)
    keys = [fold((*words, 3 + turn)) for turn in range(_ROUNDS)]
    found = places.astype(np.uint64)
    outside = np.arange(len(places))
    while len(outside):
        left, right = found[outside] >> half, found[outside] & mask
        for key in keys:
            left, right = right, left ^ (mix(right ^ key) & mask)
        found[outside] = left << half | right
        outside = outside[found[outside] >= np.uint64(size)]
    return found.astype(np.int64)


def ranks(places: Numbers, part: int, whole: int) -> Numbers:
    """floor(place * part / whole), exact for places below 2**62 / whole. [K] int64."""
    return places * part // whole
