"""What a GPU is given compiled: traced as a whole here, and held against what a CPU calls."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipelines.augment import _colour as colour
from pipelines.augment import _geometry as geometry
from pipelines.augment._change import change
from pipelines.augment.affine_colour import AffineColour
from pipelines.augment.crop_colour import CropColour
from pipelines.core.randomness import uniform
from pipelines.views import normalise, pixels

KEYS = torch.arange(6) * 7919
CROP = CropColour(CropColour.Config(blur=0.5))


def images() -> Tensor:
    return torch.rand(6, 3, 20, 24, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("fill", [None, 1.0])
def test_moving_and_mixing_in_one_pass_is_the_same(fill):
    maps, matrix, offset, _ = CROP._numbers(uniform(KEYS, 0, 14))
    wider = maps * torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0, 1.0])[:, None, None]
    expected = change(images(), wider, matrix, offset, fill)
    assert (expected == 1).any()

    def other(some: Tensor) -> Tensor:
        return colour.mix(geometry.planes(some, wider, fill), matrix, offset)

    for way in (other, torch.compile(other, backend="aot_eager", fullgraph=True)):
        torch.testing.assert_close(way(images()), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("work", "values"),
    [
        (CropColour._numbers, (CROP, uniform(KEYS, 0, 14))),
        (
            AffineColour._numbers,
            (AffineColour(AffineColour.Config()), uniform(KEYS, 0, 12), torch.ones(6, 3, 3)),
        ),
        (colour._smooth, (images(), torch.linspace(0, 2, 6), 6, 2)),
        (colour._smooth, (images(), torch.linspace(0, 2, 6), 6, 3)),
        (pixels, (images().mul(255).to(torch.uint8).permute(0, 2, 3, 1),)),
        (normalise, (images(),)),
    ],
)
def test_every_fused_function_is_traced_as_a_whole(work, values):
    traced = torch.compile(work.__wrapped__, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(traced(*values), work(*values), rtol=0, atol=1e-6)
