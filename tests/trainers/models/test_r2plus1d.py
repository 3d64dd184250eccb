from __future__ import annotations

import pytest
import torch

from pipelines.core import ConfigError
from tests.trainers.conftest import AROUND
from trainers.blocks import blocks
from trainers.models.r2plus1d import R2plus1d


def tower() -> R2plus1d:
    torch.manual_seed(0)
    return R2plus1d(R2plus1d.Config(widths=(8, 16)), AROUND)


def test_a_clip_and_its_reverse_differ() -> None:
    clip = torch.rand(1, 8, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    built = tower()
    assert (built(clip) - built(clip.flip(1))).abs().max() > 1e-3


@pytest.mark.parametrize(("frames", "side"), [(1, 16), (3, 20), (16, 33)])
def test_frames_of_any_number_and_side(frames: int, side: int) -> None:
    assert tower()(torch.zeros(2, frames, 3, side, side)).shape == (2, 16)


def test_widths_that_cannot_be_normalised_are_refused() -> None:
    with pytest.raises(ConfigError, match="a width of 12 is no multiple of 8"):
        R2plus1d(R2plus1d.Config(widths=(8, 12)), AROUND)


def test_its_blocks_are_found_for_checkpoints_of_activations() -> None:
    assert len(list(blocks(tower()))) == 2
