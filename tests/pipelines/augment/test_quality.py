from __future__ import annotations

import pytest
import torch

from pipelines.augment.quality import Quality
from pipelines.core.randomness import sample_keys

GREY = torch.full((400, 3, 32, 32), 0.5)


def keys(count: int) -> torch.Tensor:
    samples = torch.arange(count)
    return sample_keys(0, torch.zeros_like(samples), samples)


def apply(images: torch.Tensor, **ranges: tuple[float, float]) -> torch.Tensor:
    return Quality(Quality.Config(**ranges))(images, keys(len(images)), 16)


def test_noise_is_grey_and_as_strong_as_asked() -> None:
    seen = apply(GREY, blur=(0.0, 0.0), noise=(0.05, 0.1))
    assert torch.equal(seen[:, 0], seen[:, 1])
    assert seen.mean().item() == pytest.approx(0.5, abs=1e-3)
    deviation = seen[:, 0].flatten(1).std(1)
    assert 0.045 < deviation.min() < 0.055 < 0.095 < deviation.max() < 0.105
    assert deviation.mean().item() == pytest.approx(0.075, abs=0.003)


def test_noise_of_two_keys_is_unrelated() -> None:
    seen = apply(GREY[:2], blur=(0.0, 0.0), noise=(0.1, 0.1))[:, 0].flatten(1)
    assert torch.corrcoef(seen)[0, 1].abs() < 0.1


def test_blur_has_widths_from_the_range() -> None:
    point = torch.zeros(400, 3, 33, 33)
    point[:, :, 16, 16] = 1
    seen = apply(point, blur=(0.5, 1.5), noise=(0.0, 0.0))[:, 0]
    distance = (torch.arange(33.0) - 16) ** 2
    width = (seen.sum(1) * distance).sum(1).sqrt()
    assert 0.45 < width.min() < 0.6
    assert 1.4 < width.max() < 1.55


def test_ranges_of_nothing_leave_pictures_alone() -> None:
    images = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(apply(images, blur=(0.0, 0.0), noise=(0.0, 0.0)), images)
