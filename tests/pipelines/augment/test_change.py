"""What a GPU is given compiled: traced as a whole here, and held against what a CPU calls."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipelines.augment import _colour as colour
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
def test_moving_and_mixing_in_one_pass_is_the_same(monkeypatch, fill):
    maps, matrix, offset, _ = CROP._numbers(uniform(KEYS, 0, 14))
    expected = change(images(), maps, matrix, offset, fill)
    monkeypatch.setattr(colour, "recolour", lambda some, state: colour._mix(some, *state))
    traced = torch.compile(change.__wrapped__, backend="aot_eager", fullgraph=True)
    found = traced(images(), maps, matrix, offset, fill)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


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
