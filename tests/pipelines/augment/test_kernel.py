"""The kernel of a GPU's, run by triton's interpreter on a CPU; skipped where triton is not."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from torch import Tensor

from pipelines.augment._change import change
from pipelines.augment.affine_colour import AffineColour
from pipelines.augment.crop_colour import CropColour
from pipelines.core.randomness import normal, uniform

pytest.importorskip("triton", reason="needs triton")
KEYS = torch.arange(6) * 7919


@pytest.fixture
def kernel() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        from pipelines.augment import _kernel

        yield importlib.reload(_kernel)
    importlib.reload(_kernel)


def crops() -> tuple[Tensor, Tensor, Tensor]:
    maps, matrix, offset, _ = CropColour(CropColour.Config())._numbers(uniform(KEYS, 0, 14))
    return maps, matrix, offset


def turns() -> tuple[Tensor, Tensor, Tensor]:
    noise = normal(KEYS, 5, 9).view(-1, 3, 3)
    return AffineColour(AffineColour.Config())._numbers(uniform(KEYS, 0, 12), noise)


@pytest.mark.parametrize("fill", [None, 1.0])
@pytest.mark.parametrize("reach", [1.0, 3.0])  # and far beyond the picture
@pytest.mark.parametrize("numbers", [crops, turns])
def test_it_moves_and_mixes_as_the_functions_do_that_a_cpu_calls(kernel, numbers, reach, fill):
    images = torch.rand(6, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    maps, *colours = numbers()
    expected = change(images, reach * maps, *colours, fill)
    found = kernel.change(images, reach * maps, *colours, fill)
    assert found.shape == images.shape
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.1 / 255)
