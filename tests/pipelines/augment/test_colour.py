from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pipelines.augment import _colour as colour

CPU = torch.device("cpu")


def images(count: int = 6, height: int = 12, width: int = 15) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def values(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32)


def close(found: Tensor, expected: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def test_the_identity_changes_nothing():
    close(colour.recolour(images(), colour.identity(6, CPU)), images(), 1e-6)


@pytest.mark.parametrize("gain", [0.0, 0.5, 1.0, 1.7])
def test_brightness_multiplies(gain):
    state = colour.brightness(colour.identity(6, CPU), torch.full((6,), gain))
    close(colour.recolour(images(), state), (images() * gain).clamp(0, 1))


def test_brightness_may_differ_by_channel():
    gains = torch.tensor([[0.5, 1.0, 0.1]]).expand(6, 3)
    state = colour.brightness(colour.identity(6, CPU), gains)
    close(colour.recolour(images(), state), images() * gains[:, :, None, None])


@pytest.mark.parametrize("gain", [0.0, 0.5, 1.0, 1.7])
def test_contrast_stretches_about_middle_grey(gain):
    state = colour.contrast(colour.identity(6, CPU), torch.full((6,), gain))
    close(colour.recolour(images(), state), ((images() - 0.5) * gain + 0.5).clamp(0, 1))


@pytest.mark.parametrize("gain", [0.0, 0.5, 1.0, 1.3])
def test_saturation_blends_with_luma(gain):
    state = colour.saturation(colour.identity(6, CPU), torch.full((6,), gain))
    luma = (images() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    expected = (gain * images() + (1 - gain) * luma).clamp(0, 1)
    close(colour.recolour(images(), state), expected)


def test_no_saturation_gives_equal_channels():
    state = colour.saturation(colour.identity(6, CPU), torch.zeros(6))
    grey = colour.recolour(images(), state)
    close(grey[:, 0], grey[:, 1], 1e-6)
    close(grey[:, 0], grey[:, 2], 1e-6)


@pytest.mark.parametrize("turns", [0.1, 0.25, 0.5, -0.3])
def test_hue_leaves_grey_grey(turns):
    grey = images()[:, :1].expand(-1, 3, -1, -1)
    state = colour.hue(colour.identity(6, CPU), torch.full((6,), turns))
    close(colour.recolour(grey, state), grey)


@pytest.mark.parametrize("turns", [0.0, 1.0, -1.0])
def test_a_full_turn_of_hue_is_the_identity(turns):
    state = colour.hue(colour.identity(6, CPU), torch.full((6,), turns))
    close(colour.recolour(images(), state), images())


def test_a_third_of_a_turn_moves_red_to_green_to_blue():
    state = colour.hue(colour.identity(3, CPU), torch.full((3,), 1 / 3))
    pure = torch.eye(3)[:, :, None, None]  # a red, a green and a blue pixel
    close(colour.recolour(pure, state), pure.roll(-1, dims=0))


def test_hue_turns_in_the_direction_and_by_the_amount_of_hsv():
    muted = images() * 0.4 + 0.3
    state = colour.hue(colour.identity(6, CPU), torch.full((6,), 0.1))
    turned = colour.recolour(muted, state)

    def hues(picture: Tensor) -> np.ndarray:
        flat = picture.permute(0, 2, 3, 1).reshape(-1, 3).tolist()
        return np.array([colorsys.rgb_to_hsv(*pixel)[0] for pixel in flat])

    moved = (hues(turned) - hues(muted)) % 1.0
    assert np.median(moved) == pytest.approx(0.1, abs=0.02)


def test_hue_turns_add_up():
    once = colour.hue(colour.identity(2, CPU), values(0.3, -0.2))
    twice = colour.hue(colour.hue(colour.identity(2, CPU), values(0.1, -0.5)), values(0.2, 0.3))
    close(twice[0], once[0])


def test_inverting_makes_negatives_of_the_chosen():
    chosen = torch.tensor([True, False] * 3)
    negatives = colour.recolour(images(), colour.invert(colour.identity(6, CPU), chosen))
    close(negatives[::2], 1 - images()[::2])
    close(negatives[1::2], images()[1::2])


def test_a_composition_is_the_steps_one_after_the_other():
    muted = images() * 0.2 + 0.4  # so that nothing is cut off between the steps
    gains = torch.linspace(0.8, 1.2, 6)
    chosen = torch.tensor([True, False] * 3)
    steps = [
        (colour.brightness, gains),
        (colour.contrast, gains.flip(0)),
        (colour.saturation, gains),
        (colour.hue, gains - 1),
        (colour.invert, chosen),
    ]
    state, one_by_one = colour.identity(6, CPU), muted
    for step, argument in steps:
        state = step(state, argument)
        one_by_one = colour.recolour(one_by_one, step(colour.identity(6, CPU), argument))
    close(colour.recolour(muted, state), one_by_one)


def test_recolouring_stays_in_range():
    state = colour.brightness(colour.identity(6, CPU), torch.full((6,), 5.0))
    state = colour.contrast(state, torch.full((6,), 3.0))
    view = colour.recolour(images(), state)
    assert 0 <= float(view.min()) <= float(view.max()) <= 1


def naive_blur(picture: np.ndarray, sigma: float, radius: int = 4) -> np.ndarray:
    """A Gaussian along both axes with mirrored borders, in loops over taps."""
    steps = range(-radius, radius + 1)
    taps = np.array([math.exp(-0.5 * (step / sigma) ** 2) for step in steps])
    taps /= taps.sum()
    for axis in (1, 2):
        margins = [(0, 0)] * 3
        margins[axis] = (radius, radius)
        wide = np.pad(picture, margins, mode="reflect")
        size = picture.shape[axis]
        picture = sum(
            tap * np.take(wide, range(place, place + size), axis=axis)
            for place, tap in enumerate(taps)
        )
    return picture


def test_blur_is_a_gaussian_of_each_samples_own_width():
    sigmas = [0.3, 0.7, 1.0, 1.5, 2.0, 0.5]
    blurred = colour.blur(images(), values(*sigmas))
    for place, sigma in enumerate(sigmas):
        expected = naive_blur(images()[place].double().numpy(), sigma)
        np.testing.assert_allclose(blurred[place].numpy(), expected, atol=1e-5)


def test_no_width_is_no_blur():
    blurred = colour.blur(images(), values(0, 1, 0, 1, 0, 1))
    close(blurred[::2], images()[::2], 1e-6)
    assert (blurred[1::2] - images()[1::2]).abs().max() > 0.1


def test_blur_keeps_a_constant_picture_and_about_the_mean():
    flat = torch.full((2, 3, 10, 10), 0.3)
    close(colour.blur(flat, values(0.5, 2.0)), flat, 1e-6)
    means = colour.blur(images(), torch.full((6,), 1.5)).mean(dim=(1, 2, 3))
    close(means, images().mean(dim=(1, 2, 3)), 0.02)


@pytest.mark.parametrize("radius", [1, 6, 11])
def test_blur_has_the_asked_radius(radius):
    sigmas = [0.3, 0.7, 1.0, 1.5, 2.0, 0.5]
    blurred = colour.blur(images(), values(*sigmas), radius)
    for place, sigma in enumerate(sigmas):
        expected = naive_blur(images()[place].double().numpy(), sigma, radius)
        np.testing.assert_allclose(blurred[place].numpy(), expected, atol=1e-5)


def test_what_is_not_blurred_stays_bit_for_bit_and_the_given_is_left_alone():
    given = images()
    blurred = colour.blur(given, values(0, 1, 0, 1, 0, 1))
    assert torch.equal(blurred[::2], images()[::2])
    assert torch.equal(given, images())
    assert torch.equal(colour.blur(given, torch.zeros(6)), images())


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (3, 20)])
def test_pictures_smaller_than_the_kernel_are_blurred(height, width):
    blurred = colour.blur(images(6, height, width), torch.full((6,), 2.0), 6)
    assert blurred.shape == (6, 3, height, width)
    flat = torch.full((6, 3, height, width), 0.3)
    close(colour.blur(flat, torch.full((6,), 2.0), 6), flat)
