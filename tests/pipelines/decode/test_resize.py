from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pipelines.decode.resize import square


def scene(side: int) -> np.ndarray:
    """Edges in every direction over soft shades: a zone of rings."""
    down, across = np.mgrid[:side, :side] / side
    rings = np.sin(60 * (down**2 + across**2))
    planes = [128 + 100 * rings, 255 * across, 128 + 60 * np.sign(rings) * down]
    return np.stack(planes, axis=-1).astype(np.uint8)


def squared(image: np.ndarray, size: int, aspect: float = 1.0) -> np.ndarray:
    out = np.full((size, size, 3), 77, np.uint8)
    square(image, out, aspect)
    return out


@pytest.mark.parametrize("factor", [1.05, 1.2, 1.3, 1.5, 1.7, 1.9, 2.0, 2.3, 2.7, 3.1, 4.0, 6.5])
def test_shrinking_is_close_to_pillows_filters(factor):
    image = scene(480)
    size = round(480 / factor)
    got = squared(image, size).astype(int)
    for filter in (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR):
        reference = np.asarray(Image.fromarray(image).resize((size, size), filter)).astype(int)
        assert np.abs(got - reference).mean() < 2.5


@pytest.mark.parametrize("factor", [1.5, 1.7, 2.5, 2.9, 3.0, 5.0, 7.3])
def test_shrinking_keeps_what_lies_between_its_samples(factor):
    """Every other line white: plain linear shrinking is off by up to 127 from the grey of both."""
    image = np.zeros((480, 480, 3), np.uint8)
    image[::2] = 255
    got = squared(image, round(480 / factor)).astype(int)
    assert np.abs(got - 127.5).mean() < 45


def test_enlarging_is_smooth():
    image = scene(40)
    reference = np.asarray(Image.fromarray(image).resize((100, 100), Image.Resampling.BICUBIC))
    assert np.abs(squared(image, 100).astype(int) - reference).mean() < 2.5


def test_the_same_size_is_a_copy():
    image = scene(48)
    got = squared(image, 48)
    assert np.array_equal(got, image)
    assert not np.shares_memory(got, image)


@pytest.mark.parametrize("size", [1, 5, 40, 90])
@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (200, 3), (50, 50)])
@pytest.mark.parametrize("aspect", [1.0, 0.1, 12.0])
def test_every_shape_fills_the_square(size, shape, aspect):
    image = np.full((*shape, 3), 200, np.uint8)
    assert (squared(image, size, aspect) == 200).all()


@pytest.mark.parametrize(("aspect", "shape"), [(2.0, (60, 30)), (0.5, (30, 60)), (4.0, (80, 20))])
def test_pixels_that_are_not_square_are_stretched(aspect, shape):
    """All of such a picture is as wide as high, so that all of it is kept."""
    across = np.tile(np.linspace(0, 250, shape[1])[:, None], (shape[0], 1, 3)).astype(np.uint8)
    got = squared(across, 64, aspect).astype(int)
    assert got[:, 0].max() <= 3
    assert got[:, -1].min() >= 247


def test_a_view_with_other_strides_is_resized_like_a_copy():
    image = scene(90)
    for view in (image[::-1], image[:, ::-1], image.transpose(1, 0, 2)):
        for size in (20, 60, 80, 90, 120):
            assert np.array_equal(squared(view, size), squared(view.copy(), size))
