from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipelines.augment import AUGMENTATIONS
from pipelines.augment.crop_colour import CropColour
from pipelines.core.randomness import sample_keys

STILL = {
    "area": (1, 1),
    "aspect": 1,
    "flip": 0,
    "jitter": 0,
    "grey": 0,
    "blur": 0,
}


def images(count: int = 8, size: int = 32) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def keys(count: int = 8) -> Tensor:
    samples = torch.arange(count)
    return sample_keys(0, torch.zeros_like(samples), samples)


def augment(given: Tensor, **options: object) -> Tensor:
    config = CropColour.Config.model_validate({**STILL, **options})
    return AUGMENTATIONS.build(config)(given, keys(len(given)), 16)


def close(found: Tensor, expected: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def ramp(count: int, size: int = 32) -> Tensor:
    """Red is the horizontal place in [0, 1], green the vertical one."""
    line = (torch.arange(size) + 0.5) / size
    red = line.expand(size, size)
    return torch.stack([red, red.T, torch.full_like(red, 0.5)]).expand(count, -1, -1, -1).clone()


def test_without_strength_images_stay():
    close(augment(images()), images())


def test_jitter_without_strength_changes_nothing():
    still = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}
    close(augment(images(), jitter=1, **still), images())


def test_a_flip_mirrors_exactly():
    close(augment(images(), flip=1), images().flip(3))


def test_about_the_asked_share_is_flipped():
    given = images(1, 16).expand(1000, -1, -1, -1)
    flipped = (augment(given, flip=0.3) - given).abs().amax(dim=(1, 2, 3)) > 1e-3
    assert flipped.float().mean().item() == pytest.approx(0.3, abs=0.06)


def test_grey_has_equal_channels():
    grey = augment(images(), grey=1)
    close(grey[:, 0], grey[:, 1])
    close(grey[:, 1], grey[:, 2])
    luma = (images() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1)
    close(grey[:, 0], luma)


@pytest.mark.parametrize("probability", [0.25, 0.75])
def test_about_the_asked_share_is_grey_blurred_and_jittered(probability):
    given = images(1, 16).expand(800, -1, -1, -1)
    for options in ({"grey": probability}, {"blur": probability}, {"jitter": probability}):
        changed = (augment(given, **options) - given).abs().amax(dim=(1, 2, 3)) > 1e-4
        assert changed.float().mean().item() == pytest.approx(probability, abs=0.07), options


@pytest.mark.parametrize("area", [(0.25, 0.25), (0.3, 0.9)])
@pytest.mark.parametrize("aspect", [1.0, 4 / 3])
def test_a_crop_has_its_area_and_aspect_and_lies_inside(area, aspect):
    count, size = 300, 32
    views = augment(ramp(count, size), area=area, aspect=aspect)
    # The ramps tell where a view's pixels come from: slope is the side, level the place.
    width = (views[:, 0, 0, 20] - views[:, 0, 0, 10]) * size / 10
    height = (views[:, 1, 20, 0] - views[:, 1, 10, 0]) * size / 10
    share, stretch = width * height, width / height
    assert share.min() >= area[0] * 0.98 - 1e-3
    assert share.max() <= area[1] + 1e-3
    assert stretch.max() <= aspect + 1e-3
    assert stretch.min() >= 1 / aspect - 1e-3
    if area[0] < area[1]:
        assert share.max() - share.min() > 0.4
    if aspect > 1:
        assert stretch.max() - stretch.min() > 0.4
    left, top = views[:, 0, 0, 10] - 10.5 / size * width, views[:, 1, 10, 0] - 10.5 / size * height
    for low, side in ((left, width), (top, height)):
        assert low.min() > -1e-3
        assert (low + side).max() < 1 + 1e-3
        # Places are spread over what the crop leaves free.
        free = low / (1 - side).clamp(min=1e-3)
        assert free.mean().item() == pytest.approx(0.5, abs=0.08)
    if area[0] == area[1]:  # else a large crop is near both edges
        assert abs(torch.corrcoef(torch.stack([left, top]))[0, 1].item()) < 0.25


def test_jitter_stays_within_its_strengths():
    grey = torch.full((500, 3, 8, 8), 0.5)
    values = augment(grey, jitter=1, brightness=0.4, contrast=0, saturation=0, hue=0)[:, 0, 0, 0]
    assert 0.3 - 1e-5 <= values.min() < 0.32
    assert 0.68 < values.max() <= 0.7 + 1e-5


def test_numbers_of_one_step_do_not_drive_another():
    """Each pair of steps with probability one half meets in a quarter of the samples."""
    given = ramp(600)
    given[:, :, 20:, 20:] = 0.9  # an edge, so that blur shows
    changes = {
        name: ((augment(given, **{name: 0.5}) - given).abs().amax(dim=(1, 2, 3)) > 1e-3).float()
        for name in ("flip", "jitter", "grey", "blur")
    }
    correlation = torch.corrcoef(torch.stack(list(changes.values()))) - torch.eye(4)
    assert correlation.abs().max() < 0.2
