from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipelines.augment import AUGMENTATIONS
from pipelines.augment.affine_colour import AffineColour
from pipelines.core.randomness import sample_keys

STILL = dict.fromkeys(AffineColour.Config.model_fields, 0.0)


def images(count: int = 8, size: int = 16) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def augment(given: Tensor, **options: float) -> Tensor:
    samples = torch.arange(len(given))
    keys = sample_keys(0, torch.zeros_like(samples), samples)
    config = AffineColour.Config.model_validate({**STILL, **options})
    return AUGMENTATIONS.build(config)(given, keys, 16)


def close(found: Tensor, expected: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def test_without_strength_images_stay():
    close(augment(images()), images())


def test_a_flip_mirrors_exactly():
    close(augment(images(), flip=1), images().flip(3))


@pytest.mark.parametrize("name", ["zoom", "aspect", "angle", "shear", "shift"])
def test_what_comes_in_from_outside_is_white(name):
    strength = {"angle": 45.0, "shift": 1.5}.get(name, 0.7)
    white = torch.ones(20, 3, 16, 16)
    close(augment(white, **{name: strength}), white)
    black = augment(torch.zeros(50, 3, 16, 16), **{name: strength})
    assert black.max() > 0.9
    assert (augment(images(50), **{name: strength}) - images(50)).abs().max() > 0.1


@pytest.mark.parametrize("name", ["contrast", "saturation", "hue", "grey", "mixing"])
def test_linear_colour_changes_keep_white_paper_white(name):
    changed = augment(torch.ones(30, 3, 8, 8), **{name: 0.3})
    close(changed, torch.ones(30, 3, 8, 8))


@pytest.mark.parametrize("name", ["contrast", "saturation", "hue", "brightness", "mixing"])
def test_each_colour_strength_changes_ink(name):
    ink = torch.tensor([0.8, 0.2, 0.3])[:, None, None].expand(30, 3, 8, 8)
    assert (augment(ink, **{name: 0.3}) - ink).abs().amax(dim=(1, 2, 3)).mean() > 0.02


def test_grey_has_equal_channels():
    grey = augment(images(), grey=1)
    close(grey[:, 0], grey[:, 1])
    close(grey[:, 1], grey[:, 2])
