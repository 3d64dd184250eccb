"""Whole WAV files of plain numbers, of which a window is taken without FFmpeg.

FFmpeg reads such a file in packets of a few hundred samples, and looks for other codecs in it
first: ten seconds at 44.1 kHz took 19 ms of a core, and take 2 here. Whatever is not as plain
as that (floats, compressed, cut off, of unknown length) is left to FFmpeg.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_PCM, _EXTENSIBLE = 1, 0xFFFE
_GUID = bytes.fromhex("0100000000001000800000aa00389b71")  # of whole numbers, as _PCM says it
_MOST_CHANNELS, _MOST_CHUNKS = 16, 256
_TYPES: dict[int, np.dtype[Any]] = {
    8: np.dtype("u1"),
    16: np.dtype("<i2"),
    24: np.dtype("u1"),
    32: np.dtype("<i4"),
}


@dataclass(frozen=True)
class Wav:
    """A sound.

    Attributes:
        rate: Samples a second.
        bits: Of a number: 8, 16, 24 or 32.
        frames: As stored, [N, C] or [N, C, 3] of 24 bits.
    """

    rate: int
    bits: int
    frames: npt.NDArray[Any]

    def __len__(self) -> int:
        return len(self.frames)

    def channels(self, low: int, high: int) -> npt.NDArray[Any]:
        """Samples from one to another. [C, N] uint8, int16 or int32."""
        part = self.frames[low:high]
        if self.bits != 24:
            return part.T
        wide = np.zeros((*part.shape[:2], 4), np.uint8)
        wide[..., 1:] = part
        return wide.view("<i4")[..., 0].T


def parse(data: bytes) -> Wav | None:
    """Find the samples of a plain WAV; None for any other file."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return None
    form: bytes | None = None
    at = 12
    for _ in range(_MOST_CHUNKS):
        if at + 8 > len(data):
            break
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8
        if name == b"data":
            whole = 0 < size <= len(data) - at
            return _plain(form, memoryview(data)[at : at + size]) if form and whole else None
        if name == b"fmt ":
            form = data[at : at + size]
        at += size + size % 2
    return None


def _plain(form: bytes, stored: memoryview) -> Wav | None:
    if len(form) < 16:
        return None
    tag, channels, rate, _, block, bits = struct.unpack("<HHIIHH", form[:16])
    if tag == _EXTENSIBLE and len(form) >= 40 and form[24:40] == _GUID:
        # Valid bits stand at the top of the container. FFmpeg takes 24 in 32 for pcm_f24le: noise.
        tag = _PCM if 0 < int.from_bytes(form[18:20], "little") <= bits else tag
    known = tag == _PCM and bits in _TYPES and 1 <= channels <= _MOST_CHANNELS
    if not known or not rate or block != channels * bits // 8 or len(stored) % block:
        return None
    numbers = np.frombuffer(stored, _TYPES[bits])
    return Wav(rate, bits, numbers.reshape(-1, channels, *([3] if bits == 24 else [])))
