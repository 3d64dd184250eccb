from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipelines.augment._geometry import _grid, affine, between, resample

HEIGHT, WIDTH = 8, 12


def images(count: int = 2, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def maps(
    count: int = 2,
    zoom_x: float = 1,
    zoom_y: float = 1,
    angle: float = 0,
    shear: float = 0,
    shift_x: float = 0,
    shift_y: float = 0,
) -> Tensor:
    numbers = (zoom_x, zoom_y, angle, shear, shift_x, shift_y)
    return affine(*(torch.full((count,), float(number)) for number in numbers))


def close(found: Tensor, expected: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("fill", [None, 0.0, 1.0])
def test_the_identity_changes_nothing(fill):
    close(resample(images(), maps(), fill), images())


def shifted(picture: np.ndarray, right: int, down: int, fill: float | None) -> np.ndarray:
    """out[y, x] = in[y + down, x + right], by index."""
    out = np.empty_like(picture)
    height, width = picture.shape[-2:]
    for y in range(height):
        for x in range(width):
            from_y, from_x = y + down, x + right
            inside = 0 <= from_y < height and 0 <= from_x < width
            if inside or fill is None:
                from_y, from_x = min(max(from_y, 0), height - 1), min(max(from_x, 0), width - 1)
                out[..., y, x] = picture[..., from_y, from_x]
            else:
                out[..., y, x] = fill
    return out


@given(
    st.integers(-WIDTH, WIDTH), st.integers(-HEIGHT, HEIGHT), st.sampled_from([None, 0.0, 1.0, 0.3])
)
def test_a_shift_by_whole_pixels_moves_pixels(right, down, fill):
    moved = resample(images(), maps(shift_x=2 * right / WIDTH, shift_y=2 * down / HEIGHT), fill)
    close(moved, torch.from_numpy(shifted(images().numpy(), right, down, fill)), 1e-4)


def test_a_negative_zoom_mirrors():
    close(resample(images(), maps(zoom_x=-1), None), images().flip(3))
    close(resample(images(), maps(zoom_y=-1), None), images().flip(2))


@pytest.mark.parametrize(("quarters", "turn"), [(1, 1), (2, 2), (3, 3), (4, 0), (-1, -1)])
def test_quarter_turns_turn_a_square(quarters, turn):
    square = images(height=8, width=8)
    turned = resample(square, maps(angle=quarters * math.pi / 2), 0.0)
    close(turned, torch.rot90(square, turn, (2, 3)), 1e-4)


def test_a_zoom_of_two_shows_the_middle_twice_as_large():
    zoomed = resample(images(height=8, width=8), maps(zoom_x=2, zoom_y=2), None)
    # Averaging each 2x2 block of the magnified picture gives back a blurred middle: compare
    # with bilinear sampling done by hand at one place.
    source = images(height=8, width=8)
    # Output pixel 4 has its centre at 4.5 of 8: 0.125 of the half width, 0.0625 in the input,
    # that is 4.25 of 8, a quarter of the way from the centre of pixel 3 (3.5) ... to 4 (4.5).
    weights = torch.tensor([0.25, 0.75])
    block = source[:, :, 3:5, 3:5]
    expected = torch.einsum("bcyx,y,x->bc", block, weights, weights)
    close(zoomed[:, :, 4, 4], expected)


def test_shear_moves_rows_against_each_other():
    square = images(height=8, width=8)
    sheared = resample(square, maps(shear=1.0), 0.0)
    # A row at y (in half heights) is read y half widths further: whole pixels and a half here.
    for row in range(8):
        offset = row - 3.5
        low = math.floor(offset)
        pair = [shifted(square.numpy(), step, 0, 0.0)[:, :, row] for step in (low, low + 1)]
        expected = torch.from_numpy((pair[0] + pair[1]) / 2)
        close(sheared[:, :, row], expected, 1e-4)


def test_each_sample_has_its_own_map():
    both = torch.cat([maps(1, zoom_x=-1), maps(1)])
    moved = resample(images(), both, None)
    close(moved[0], images()[0].flip(2))
    close(moved[1], images()[1])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 12), (224, 224)])
def test_the_grid_is_that_of_affine_grid(height, width):
    numbers = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(0))
    expected = F.affine_grid(numbers.double(), [6, 3, height, width], align_corners=False)
    close(_grid(numbers, height, width), expected.float())


@given(st.floats(-5, 5), st.floats(-5, 5))
def test_between_maps_the_unit_interval(low, high):
    numbers = between(torch.tensor([0.0, 0.25, 1.0]), low, high)
    expected = torch.tensor([low, low + 0.25 * (high - low), high])
    close(numbers, expected.float(), 1e-5)
