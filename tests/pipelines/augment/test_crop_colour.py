from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pipelines.augment import AUGMENTATIONS
from pipelines.augment.crop_colour import CropColour
from pipelines.core.randomness import sample_keys, uniform

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


SIMCLR = {
    "area": (0.08, 1.0),
    "aspect": 4 / 3,
    "flip": 0.5,
    "jitter": 0.8,
    "brightness": 0.8,
    "contrast": 0.8,
    "saturation": 0.8,
    "hue": 0.2,
    "grey": 0.2,
    "blur": 0.5,
    "sigma": (0.1, 2.0),
}


def pillow_crop(picture: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Crop, resize with Pillow's antialiased bilinear filter, mirror. picture: [3, S, S]"""
    size = picture.shape[1]
    area = 0.08 + 0.92 * u[0]
    stretch = (4 / 3) ** (u[1] - 0.5)
    wide, high = min(1, math.sqrt(area) * stretch), min(1, math.sqrt(area) / stretch)
    left, top = (1 - wide) * u[2] * size, (1 - high) * u[3] * size
    box = (left, top, min(size, left + wide * size), min(size, top + high * size))
    bands = [Image.fromarray(band.astype(np.float32)) for band in picture]
    cut = [band.resize((size, size), Image.Resampling.BILINEAR, box=box) for band in bands]
    view = np.stack([np.asarray(band, dtype=np.float64) for band in cut])
    return view[:, :, ::-1] if u[4] < 0.5 else view


def saturate(view: np.ndarray, gain: float) -> np.ndarray:
    return gain * view + (1 - gain) * np.tensordot([0.299, 0.587, 0.114], view, 1)


def turn_hue(view: np.ndarray, turns: float) -> np.ndarray:
    """Rodrigues' rotation about the grey axis."""
    axis = np.full(3, 1 / math.sqrt(3))
    angle = 2 * math.pi * turns
    along = np.tensordot(axis, view, 1)[None] * axis[:, None, None]
    crossed = np.cross(axis, view, axisb=0, axisc=0)
    return view * math.cos(angle) + crossed * math.sin(angle) + along * (1 - math.cos(angle))


def blur(view: np.ndarray, sigma: float, radius: int) -> np.ndarray:
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    taps /= taps.sum()
    for axis in (1, 2):
        margins = [(radius, radius) if place == axis else (0, 0) for place in range(3)]
        wide = np.pad(view, margins, mode="reflect")
        view = np.apply_along_axis(np.convolve, axis, wide, taps, mode="valid")
    return view


def reference(picture: np.ndarray, u: np.ndarray, radius: int) -> np.ndarray:
    """The steps one after the other in float64, cut off at the end of the colours alone."""
    view = pillow_crop(picture, u)
    if u[5] < 0.8:
        view = view * (0.2 + 1.6 * u[6])
        view = (view - 0.5) * (0.2 + 1.6 * u[7]) + 0.5
        view = saturate(view, 0.2 + 1.6 * u[8])
        view = turn_hue(view, 0.4 * u[9] - 0.2)
    if u[10] < 0.2:
        view = saturate(view, 0)
    view = view.clip(0, 1)
    return blur(view, 0.1 + 1.9 * u[13], radius) if u[12] < 0.5 else view


@pytest.mark.parametrize("size", [32, 120])
def test_a_view_is_pillows_crop_and_the_steps_one_after_the_other(size):
    """With the blur's kernel a tenth of the side and more, as in the paper's appendix A."""
    given = images(24, size)
    views = augment(given, **SIMCLR).numpy()
    numbers = uniform(keys(24), 16, 14).double().numpy()
    for place, probability in ((4, 0.5), (5, 0.8), (10, 0.2), (12, 0.5)):
        assert 0 < (numbers[:, place] < probability).sum() < 24  # flip, jitter, grey, blur
    for picture, view, u in zip(given.double().numpy(), views, numbers, strict=True):
        expected = reference(picture, u, radius=max(6, size // 10))
        assert np.abs(view - expected).max() < 1 / 255  # of noise, the hardest to resample


GAINS = ("brightness", "contrast", "saturation", "hue")


def drawn(name: str, strength: float, count: int) -> Tensor:
    """What a step did to each sample, read off its pixels: gains, or turns. [count]"""
    ink = torch.tensor([0.35, 0.3, 0.2])[:, None, None].expand(count, 3, 2, 2)
    still = dict.fromkeys(GAINS, 0.0)
    red, green, blue = augment(ink, jitter=1, **{**still, name: strength})[:, :, 0, 0].unbind(1)
    if name == "brightness":
        return red / 0.35
    if name == "contrast":
        return (red - 0.5) / (0.35 - 0.5)
    if name == "saturation":
        return (red - blue) / 0.15

    def angle(r: Tensor, g: Tensor, b: Tensor) -> Tensor:
        return torch.atan2(math.sqrt(3) * (g - b), 2 * r - g - b)

    before = angle(*torch.tensor([0.35, 0.3, 0.2]))
    return 1 + ((angle(red, green, blue) - before) / (2 * math.pi) + 0.5) % 1 - 0.5


@pytest.mark.parametrize("name", GAINS)
@pytest.mark.parametrize("strength", [0.1, 0.4])
def test_gains_and_turns_are_uniform_within_their_strength(name, strength):
    count = 1000
    found = drawn(name, strength, count).sort().values
    expected = torch.linspace(1 - strength, 1 + strength, count)
    assert (found - expected).abs().max() < 2 * strength * 0.0515  # Kolmogorov-Smirnov, 1 %
    assert found.min() >= 1 - strength - 1e-4
    assert found.max() <= 1 + strength + 1e-4
    assert found.mean().item() == pytest.approx(1, abs=0.06 * strength)


def test_gains_do_not_drive_one_another():
    found = torch.stack([drawn(name, 0.4, 1000) for name in GAINS])
    assert (torch.corrcoef(found) - torch.eye(4)).abs().max() < 0.1


def test_crops_areas_are_uniform_within_their_range():
    count, size = 1000, 32
    views = augment(ramp(count, size), area=(0.2, 0.7))
    width = (views[:, 0, 0, 20] - views[:, 0, 0, 10]) * size / 10
    height = (views[:, 1, 20, 0] - views[:, 1, 10, 0]) * size / 10
    share = (width * height).sort().values
    assert (share - torch.linspace(0.2, 0.7, count)).abs().max() < 0.5 * 0.0515
    assert share.mean().item() == pytest.approx(0.45, abs=0.015)


def test_a_wider_kernel_than_that_of_wide_blurs_would_not_show():
    """The paper's is a tenth of the side, 23 pixels of 224; here it follows from the width."""
    picture = (images(1, 64).double().numpy()[0] > 0.5).astype(np.float64)
    near, far = blur(picture, 2.0, 6), blur(picture, 2.0, 11)
    assert np.abs(near - far).max() < 1 / 255
