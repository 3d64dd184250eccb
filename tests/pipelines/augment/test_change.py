"""What a GPU is given compiled: traced as a whole here, and held against what a CPU calls."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipelines.augment import _colour as colour
from pipelines.augment.affine_colour import AffineColour
from pipelines.augment.crop_colour import CropColour
from pipelines.core import randomness
from pipelines.core.randomness import uniform
from pipelines.views import normalise, pixels

KEYS = torch.arange(6) * 7919
CROP = CropColour(CropColour.Config(blur=0.5))


def images() -> Tensor:
    return torch.rand(6, 3, 20, 24, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(20, 24), (5, 4), (1, 9)])
def test_a_blur_by_products_of_matrices_is_the_same(size: tuple[int, int]) -> None:
    given = torch.rand(6, 3, *size, generator=torch.Generator().manual_seed(0))
    sigma = torch.linspace(0, 2, 6)
    found = colour.smooth(given, sigma, 6)
    expected = colour.blur(given, sigma, 6)
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.5 / 255)


@pytest.mark.parametrize(
    ("work", "values"),
    [
        (CropColour._numbers, (CROP, uniform(KEYS, 0, 14))),
        (
            AffineColour._numbers,
            (AffineColour(AffineColour.Config()), uniform(KEYS, 0, 12), torch.ones(6, 3, 3)),
        ),
        (colour._bands, (torch.linspace(0, 2, 6), 20, 6)),
        (randomness._uniform, (KEYS, KEYS)),
        (pixels, (images().mul(255).to(torch.uint8).permute(0, 2, 3, 1),)),
        (normalise, (images(),)),
    ],
)
def test_every_fused_function_is_traced_as_a_whole(work, values):
    traced = torch.compile(work.__wrapped__, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(traced(*values), work(*values), rtol=0, atol=1e-6)
