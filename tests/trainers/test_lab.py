from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch

from trainers.lab import ab_bins, lab_to_rgb, rgb_to_lab, soft_bins

# CIE L*a*b* under D65 of sRGB colours, as published in tables of colour conversions.
KNOWN = {
    (255, 255, 255): (100.0, 0.0, 0.0),
    (0, 0, 0): (0.0, 0.0, 0.0),
    (255, 0, 0): (53.24, 80.09, 67.20),
    (0, 255, 0): (87.73, -86.18, 83.18),
    (0, 0, 255): (32.30, 79.19, -107.86),
    (255, 255, 0): (97.14, -21.55, 94.48),
    (0, 255, 255): (91.11, -48.09, -14.13),
    (255, 0, 255): (60.32, 98.23, -60.82),
    (128, 128, 128): (53.59, 0.0, 0.0),
}


def naive_lab(rgb: np.ndarray) -> list[float]:
    """One colour, by CIE 15:2004 and IEC 61966-2-1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    rows = [
        (0.4124564, 0.3575761, 0.1804375),
        (0.2126729, 0.7151522, 0.0721750),
        (0.0193339, 0.1191920, 0.9503041),
    ]
    f = []
    for row, white in zip(rows, (0.95047, 1.0, 1.08883), strict=True):
        t = sum(a * b for a, b in zip(row, linear, strict=True)) / white
        f.append(t ** (1 / 3) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116)
    return [116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])]


def colours(count: int, dark: float = 1.0) -> torch.Tensor:
    random = np.random.default_rng(0).random((count, 3, 1, 1)) * dark
    return torch.from_numpy(random)


@pytest.mark.parametrize("rgb", KNOWN)
def test_known_colours(rgb: tuple[int, int, int]) -> None:
    colour = torch.tensor(rgb, dtype=torch.float32).view(1, 3, 1, 1) / 255
    assert rgb_to_lab(colour).flatten().tolist() == pytest.approx(KNOWN[rgb], abs=0.02)


@pytest.mark.parametrize("dark", [1.0, 0.05])
def test_it_equals_its_formulae(dark: float) -> None:
    rgb = colours(500, dark)
    expected = [naive_lab(colour) for colour in rgb[:, :, 0, 0].numpy()]
    np.testing.assert_allclose(rgb_to_lab(rgb)[:, :, 0, 0], expected, atol=1e-4)


def test_it_equals_another_library() -> None:
    image = np.random.default_rng(0).random((20, 30, 3)).astype(np.float32)
    expected = cv2.cvtColor(image, cv2.COLOR_RGB2Lab)
    got = rgb_to_lab(torch.from_numpy(image).permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    np.testing.assert_allclose(got, expected, atol=0.5)  # it reads tables


@pytest.mark.parametrize("dark", [1.0, 0.05])
def test_there_and_back(dark: float) -> None:
    rgb = colours(500, dark)
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(rgb)), rgb, atol=1e-7, rtol=0)
    single = rgb.float()
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(single)), single, atol=2e-5, rtol=0)


def test_colours_that_srgb_does_not_have_are_clipped() -> None:
    rgb = lab_to_rgb(torch.tensor([[50.0, 120.0, -120.0], [110.0, 0.0, 0.0]]).view(2, 3, 1, 1))
    assert rgb.min() == 0
    assert rgb.max().item() == pytest.approx(1, abs=1e-6)


def test_grey_has_no_colour_in_single_precision() -> None:
    grey = torch.linspace(0, 1, 256).view(-1, 1, 1, 1).expand(-1, 3, 1, 1)
    assert rgb_to_lab(grey)[:, 1:].abs().max() < 1e-3


def test_autocast_does_not_round_it() -> None:
    rgb = colours(50).float()
    with torch.autocast("cpu", torch.bfloat16):
        lab = rgb_to_lab(rgb)
    assert torch.equal(lab, rgb_to_lab(rgb))


def test_bins_are_those_of_srgbs_colours() -> None:
    bins = {tuple(row) for row in ab_bins(10).tolist()}
    assert len(bins) == len(ab_bins(10)) == 261
    random = np.random.default_rng(1).random((5000, 3))
    found = {tuple(10 * round(v / 10) for v in naive_lab(colour)[1:]) for colour in random}
    assert found <= bins
    assert (0, 0) in bins
    assert (80, -110) in bins  # blue
    assert (-60, -60) not in bins


@pytest.mark.parametrize("neighbours", [1, 5])
def test_shares_go_to_the_nearest_bins(neighbours: int) -> None:
    bins = ab_bins(10)
    ab = rgb_to_lab(colours(40))[:, 1:, 0, 0]
    shares = soft_bins(ab, bins, neighbours, 5.0)
    for colour, row in zip(ab.tolist(), shares, strict=True):
        distance = [math.dist(colour, centre) for centre in bins.tolist()]
        near = sorted(range(len(bins)), key=distance.__getitem__)[:neighbours]
        weight = {q: math.exp(-(distance[q] ** 2) / 50) for q in near}
        expected = [weight.get(q, 0.0) / sum(weight.values()) for q in range(len(bins))]
        assert row.tolist() == pytest.approx(expected, abs=1e-9)
        assert row.argmax() == near[0]
