from __future__ import annotations

from typing import Literal

import pytest
import torch

from pipelines.core import ConfigError
from trainers.core.objective import Surroundings
from trainers.models._stem import ConvolutionalStem
from trainers.models.vit_registers import VitRegisters

WIDTH = 32


@pytest.mark.parametrize(("patch", "height", "width"), [(2, 8, 6), (4, 16, 8), (8, 32, 32)])
def test_one_token_a_patch(patch: int, height: int, width: int) -> None:
    stem = ConvolutionalStem(patch, WIDTH)
    found = stem(torch.rand(2, 3, height, width))
    assert found.shape == (2, height // patch * (width // patch), WIDTH)


def test_tokens_are_in_reading_order() -> None:
    torch.manual_seed(0)
    stem = ConvolutionalStem(4, WIDTH)
    images = torch.rand(1, 3, 32, 64)
    changed = images.clone()
    # A stride of 2 with a padding of 1 centres a token on the first pixel of its patch.
    changed[:, :, 3 * 4, 10 * 4] += 9
    difference = (stem(changed) - stem(images)).abs().mean((0, 2))
    assert int(difference.argmax()) == 3 * 16 + 10


@pytest.mark.parametrize("patch", [1, 6, 7])
def test_patches_that_cannot_be_halved(patch: int) -> None:
    with pytest.raises(ConfigError, match=rf"{patch} is not a power of two"):
        ConvolutionalStem(patch, WIDTH)


def test_widths_that_cannot_be_halved() -> None:
    with pytest.raises(ConfigError, match="halves of the width 36"):
        ConvolutionalStem(4, 36)


def test_a_vision_transformer_with_it() -> None:
    torch.manual_seed(0)
    config = VitRegisters.Config(
        width=WIDTH, layers=1, heads=2, patch=4, registers=1, stem="convolutions", pooling="flat"
    )
    tower = VitRegisters(config, Surroundings(size=16))
    images = torch.rand(3, 3, 16, 16)
    masked = torch.zeros(3, 16, dtype=torch.bool)
    masked[:, 5] = True
    assert tower(images).shape == (3, tower.width) == (3, 16 * WIDTH)
    assert not torch.equal(tower.tokens(images).patches, tower.tokens(images, masked).patches)
    assert tower.tokens(images[:, :, :8, :8]).patches.shape == (3, 4, WIDTH)
    tower(images).square().sum().backward()
    assert all(p.grad is not None for p in tower.parameters())


@pytest.mark.parametrize("stem", ["linear", "convolutions"])
def test_no_token_shows_what_is_masked(stem: Literal["linear", "convolutions"]) -> None:
    torch.manual_seed(0)
    config = VitRegisters.Config(width=WIDTH, layers=2, heads=2, patch=4, stem=stem)
    tower = VitRegisters(config, Surroundings(size=16))
    images = torch.rand(2, 3, 16, 24)
    others = images.clone()
    masked = torch.zeros(2, 4 * 6, dtype=torch.bool)
    masked[0, 8], masked[1, 23] = True, True  # second row, third place; the last
    others[0, :, 4:8, 8:12] = 1.0
    others[1, :, 12:16, 20:24] = -1.0
    seen, unseen = tower.tokens(images), tower.tokens(others)
    assert not torch.equal(seen.patches, unseen.patches)
    for kind in ("image", "registers", "patches"):
        hidden = [getattr(tower.tokens(one, masked), kind) for one in (images, others)]
        assert torch.equal(*hidden)
