from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipelines.core import ConfigError
from trainers.log_mel import SILENCE, LogMel, MelConfig, triangles

RATE = 4000
CONFIG = MelConfig(bands=12, window=0.03, hop=0.01)


def naive_bands(bands: int, bins: int, top: float) -> np.ndarray:
    def mel(hertz: float) -> float:
        return 2595 * math.log10(1 + hertz / 700)

    edges = [700 * (10 ** (mel(top) * i / (bands + 1) / 2595) - 1) for i in range(bands + 2)]
    weights = np.zeros((bands, bins))
    for band in range(bands):
        low, centre, high = edges[band : band + 3]
        for place in range(bins):
            hertz = top * place / (bins - 1)
            if low < hertz <= centre:
                weights[band, place] = (hertz - low) / (centre - low)
            elif centre < hertz < high:
                weights[band, place] = (high - hertz) / (high - centre)
    return weights


def naive(sound: np.ndarray) -> np.ndarray:
    """One window at a time, by the definition of the discrete Fourier transform."""
    length, hop, size = 120, 40, 128
    hann = np.array([0.5 - 0.5 * math.cos(2 * math.pi * i / length) for i in range(length)])
    waves = np.exp(-2j * math.pi * np.outer(np.arange(size // 2 + 1), np.arange(size)) / size)
    columns = []
    for centre in range(0, len(sound) + 1, hop):
        piece = np.zeros(size)
        for i in range(length):
            at = centre + i - length // 2
            if 0 <= at < len(sound):
                piece[i] = hann[i] * sound[at]
        power = np.abs(waves @ piece) ** 2 / hann.sum() ** 2
        columns.append(np.log(naive_bands(12, size // 2 + 1, RATE / 2) @ power + 1e-6))
    return np.stack(columns, 1)


def test_bands_are_those_of_the_htk_scale() -> None:
    found = triangles(12, 65, 2000.0).double().numpy()
    np.testing.assert_allclose(found, naive_bands(12, 65, 2000.0), atol=1e-6)


def test_it_is_what_the_definition_says() -> None:
    sound = np.random.default_rng(0).uniform(-1, 1, 450)
    found = LogMel(CONFIG, RATE).double()(torch.from_numpy(sound)[None])
    assert found.shape == (1, 12, 12)
    np.testing.assert_allclose(found[0].numpy(), naive(sound), rtol=1e-5, atol=1e-5)


def test_a_tone_is_loudest_in_its_band_and_silence_is_the_floor() -> None:
    time = torch.arange(RATE) / RATE
    mel = LogMel(CONFIG, RATE)
    highest = 2595 * math.log10(1 + 2000 / 700)
    for band in (2, 6, 10):
        hertz = 700 * (10 ** (highest * (band + 1) / 13 / 2595) - 1)
        spectrum = mel(torch.sin(2 * math.pi * hertz * time)[None])[0]
        assert spectrum[:, 50].argmax() == band
    assert torch.allclose(mel(torch.zeros(1, 400)), torch.tensor(SILENCE))


def test_autocast_does_not_change_it() -> None:
    sound = torch.rand(2, 800, generator=torch.Generator().manual_seed(0)) - 0.5
    mel = LogMel(CONFIG, RATE)
    expected = mel(sound)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(mel(sound), expected)


def test_too_many_bands_are_refused() -> None:
    with pytest.raises(ConfigError, match="set fewer bands or a longer window"):
        LogMel(MelConfig(bands=128), RATE)
