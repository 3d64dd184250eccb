from __future__ import annotations

import pytest
import torch

from pipelines.core import ConfigError
from tests.trainers.conftest import AROUND
from trainers.blocks import blocks
from trainers.models.r2plus1d import R2plus1d


def tower(frequencies: int = 1) -> R2plus1d:
    torch.manual_seed(0)
    return R2plus1d(R2plus1d.Config(widths=(8, 16), frequencies=frequencies), AROUND)


def test_a_clip_and_its_reverse_differ() -> None:
    clip = torch.rand(1, 8, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    built = tower()
    assert (built(clip) - built(clip.flip(1))).abs().max() > 1e-3


@pytest.mark.parametrize(("frames", "side"), [(1, 16), (3, 20), (16, 33)])
def test_frames_of_any_number_and_side(frames: int, side: int) -> None:
    assert tower()(torch.zeros(2, frames, 3, side, side)).shape == (2, 16)


def test_the_lowest_frequency_is_the_mean_and_the_next_tells_early_from_late() -> None:
    clip = torch.rand(1, 16, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    one, two = tower()(clip), tower(2)(clip).view(1, 16, 2)
    torch.testing.assert_close(two[:, :, 0], one)
    late = torch.zeros(2, 16, 3, 16, 16)
    late[0, 2], late[1, 13] = 1.0, 1.0
    early, late = tower(2)(late).view(2, 16, 2)
    assert (early[:, 1] - late[:, 1]).abs().max() > 2 * (early[:, 0] - late[:, 0]).abs().max()


def test_widths_that_cannot_be_normalised_are_refused() -> None:
    with pytest.raises(ConfigError, match="a width of 12 is no multiple of 8"):
        R2plus1d(R2plus1d.Config(widths=(8, 12)), AROUND)


def test_its_blocks_are_found_for_checkpoints_of_activations() -> None:
    assert len(list(blocks(tower()))) == 2
