"""Log-mel spectrograms of waveforms."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pipelines import core
from pipelines.core import ConfigError
from trainers.losses.precision import wide

_FLOOR = 1e-6  # of power: what is quieter than that sounds alike
SILENCE = math.log(_FLOOR)
"""What silence is in every band."""


class MelConfig(core.Config):
    """Resolution of the spectrogram.

    Attributes:
        bands: Mel bands, from 0 to half of the sampling rate.
        window: Length of a Hann window, in seconds.
        hop: From one window to the next, in seconds.
    """

    bands: int = 32
    window: float = 0.032
    hop: float = 0.01


class LogMel(nn.Module):
    """Logarithm of the power in triangular bands of equal width on the HTK mel scale.

    ``mel = 2595 log10(1 + f / 700)``. Windows are centred at multiples of the hop; what
    lies outside of the waveform is silence.
    """

    def __init__(self, config: MelConfig, rate: int):
        super().__init__()
        self._hop = max(1, round(config.hop * rate))
        length = max(2, round(config.window * rate))
        self._size = 1 << length.bit_length()  # the next power of two, filled up with zeros
        self._window: Tensor
        self._bands: Tensor
        self.register_buffer("_window", torch.hann_window(length), persistent=False)
        bands = triangles(config.bands, self._size // 2 + 1, rate / 2)
        if not bands.sum(1).all():
            raise ConfigError(
                f"{config.bands} mel bands are too many for windows of {config.window} s"
                f" at {rate} samples a second: set fewer bands or a longer window"
            )
        self.register_buffer("_bands", bands, persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Spectrograms in at least single precision. [B, S] -> [B, bands, 1 + S // hop]."""
        with torch.autocast(waveforms.device.type, enabled=False):
            sound = wide(waveforms)
            found = torch.stft(
                sound,
                self._size,
                self._hop,
                len(self._window),
                self._window.to(sound.dtype),
                center=True,
                pad_mode="constant",
                return_complex=True,
            )
            # Magnitudes of complex numbers take a CPU as long as the transform does.
            power = torch.addcmul(found.real.square(), found.imag, found.imag)
            power = power / self._window.sum().to(sound.dtype) ** 2
            return (self._bands.to(sound.dtype) @ power + _FLOOR).log()


def triangles(bands: int, bins: int, top: float) -> Tensor:
    """Weights of frequencies in bands.

    Args:
        bands: How many.
        bins: Frequencies of a spectrum, evenly from 0 to ``top``.
        top: In hertz.

    Returns:
        Each rises from 0 at the centre of the band below to 1 at its own, and falls to 0
        at that of the band above. [bands, bins] float32
    """
    highest = 2595 * torch.log10(torch.tensor(1 + top / 700, dtype=torch.float64))
    mels = torch.linspace(0, 1, bands + 2, dtype=torch.float64) * highest
    edges = 700 * (10 ** (mels / 2595) - 1)
    heard = torch.linspace(0, top, bins, dtype=torch.float64)
    low, centre, high = (edges[i : i + bands, None] for i in range(3))
    rising, falling = (heard - low) / (centre - low), (high - heard) / (high - centre)
    return torch.minimum(rising, falling).clamp(min=0).float()
