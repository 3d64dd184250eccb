from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.core import ConfigError
from pipelines.core.randomness import part_keys
from tests.trainers.conftest import SMALL_TOWERS
from trainers.core.objective import Surroundings
from trainers.models import TOWERS
from trainers.patches import (
    Layout,
    PatchConfig,
    PatchTower,
    cut,
    keep_one,
    recolour,
    standardise,
)

CONFIGS = [
    PatchConfig(),
    PatchConfig(gap=0.0, jitter=0.0),
    PatchConfig(gap=0.1, jitter=0.15),
    PatchConfig(gap=1.0, jitter=0.5),
]


def keys_of(count: int, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(-(2**62), 2**62, (count,), generator=random)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("size", [12, 16, 28, 48, 64, 224])
def test_the_layout_is_the_largest_that_fits(config: PatchConfig, size: int) -> None:
    layout = Layout.fit(config, size)
    assert layout.extent <= size
    side = layout.side + 1
    assert 3 * (side + round(config.jitter * side)) + 2 * round(config.gap * side) > size


def test_the_layout_of_the_paper_at_64_pixels() -> None:
    assert Layout.fit(PatchConfig(), 64) == Layout(size=64, side=14, gap=7, jitter=2)


def test_an_image_without_room_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"2 pixels; raise data\.decode\.size"):
        Layout.fit(PatchConfig(), 2)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("size", [16, 48])
def test_jitter_is_bounded_and_the_gap_is_respected(config: PatchConfig, size: int) -> None:
    layout = Layout.fit(config, size)
    places = layout.places(keys_of(2000), 5).view(-1, 3, 3, 2)
    assert places.min() >= 0
    assert places.max() + layout.side <= size
    for axis in range(2):
        gaps = places[..., axis].diff(dim=1 + axis) - layout.side
        assert gaps.min() == layout.gap
        assert gaps.max() == layout.gap + 2 * layout.jitter
        across = places[..., axis].diff(dim=2 - axis)
        assert across.abs().max() == layout.jitter
    corner = places[:, 0, 0, 0]
    assert corner.unique().tolist() == list(range(size - layout.extent + layout.jitter + 1))


def test_places_depend_on_the_key_alone() -> None:
    layout, keys = Layout.fit(PatchConfig(), 64), keys_of(50)
    before = torch.get_rng_state()
    places = layout.places(keys, 5)
    order = torch.arange(49, -1, -1)
    assert torch.equal(layout.places(keys[order], 5), places[order])
    assert len(torch.unique(places.flatten(1), dim=0)) == 50
    assert not torch.equal(layout.places(keys, 6), places)
    assert torch.equal(torch.get_rng_state(), before)


def test_patches_are_these_pixels() -> None:
    image = torch.arange(16).view(1, 1, 4, 4)
    corners = torch.tensor([[[0, 0], [1, 2], [2, 1]]])
    expected = [[[0, 1], [4, 5]], [[6, 7], [10, 11]], [[9, 10], [13, 14]]]
    assert cut(image, corners, 2)[0, :, 0].tolist() == expected


def test_patches_are_slices_of_their_own_image() -> None:
    images = torch.arange(5 * 3 * 16 * 16).view(5, 3, 16, 16)
    layout = Layout.fit(PatchConfig(gap=0.1, jitter=0.3), 16)
    corners = layout.places(keys_of(5), 1)
    patches = cut(images, corners, layout.side)
    for sample in range(5):
        for patch in range(9):
            row, column = corners[sample, patch].tolist()
            whole = images[sample, :, row : row + layout.side, column : column + layout.side]
            assert torch.equal(patches[sample, patch], whole)


def test_each_patch_has_its_own_key() -> None:
    keys = part_keys(keys_of(100), 9)
    assert keys.unique().numel() == 900
    assert torch.equal(part_keys(keys_of(100), 2), keys[:, :2])


def test_projection_is_that_of_the_paper() -> None:
    patches = torch.rand(4, 3, 5, 5, dtype=torch.float64)
    axis = np.array([[-1.0, 2.0, -1.0]])
    matrix = np.eye(3) - axis.T @ axis / (axis @ axis.T)
    expected = np.einsum("ij,njhw->nihw", matrix, patches.numpy())
    np.testing.assert_allclose(recolour(patches, "project"), expected, atol=1e-12)


def test_grey_has_equal_channels_and_keep_changes_nothing() -> None:
    patches = torch.rand(4, 3, 5, 5)
    grey = recolour(patches, "grey")
    assert torch.equal(grey[:, 0], grey[:, 1])
    assert torch.equal(grey[:, 0], grey[:, 2])
    torch.testing.assert_close(
        grey[0, 0, 0, 0], patches[0, :, 0, 0] @ torch.tensor([0.299, 0.587, 0.114])
    )
    assert torch.equal(recolour(patches, "keep"), patches)


def test_one_channel_is_kept_and_noise_fills_the_others() -> None:
    patches, keys = torch.randn(3000, 3, 6, 6), keys_of(3000)
    dropped = keep_one(patches, keys)
    same = (dropped == patches).flatten(2).all(2)
    assert same.sum(1).tolist() == [1] * 3000
    assert (same.float().mean(0) - 1 / 3).abs().max() < 0.04
    ratio = dropped[~same].std() / patches[same].std()
    assert ratio.item() == pytest.approx(0.01, rel=0.02)
    assert dropped[~same].mean().abs() < 1e-3
    assert torch.equal(keep_one(patches[7:9], keys[7:9]), dropped[7:9])


def test_each_channel_of_each_patch_is_normalised() -> None:
    patches = torch.rand(4, 3, 5, 5, dtype=torch.float64) * 7 + 2
    result = standardise(patches)
    for patch, expected in zip(result.flatten(0, 1), patches.flatten(0, 1).numpy(), strict=True):
        np.testing.assert_allclose(patch, (expected - expected.mean()) / expected.std(), atol=1e-9)
    assert standardise(torch.full((1, 3, 4, 4), 0.7)).abs().max() < 1e-3


@pytest.mark.parametrize(
    "tower",
    [
        SMALL_TOWERS["image"],
        {"kind": "resnet", "widths": [8, 16], "depths": [1, 1], "pooling": "flat"},
        {"kind": "vit", "width": 16, "layers": 1, "heads": 2, "patch": 4},
    ],
)
def test_every_tower_reads_patches_and_whole_images(tower: dict[str, object]) -> None:
    made = PatchTower(PatchConfig(), TOWERS.parse(tower), Surroundings(size=32))
    assert made.side == 16
    assert made(torch.rand(2, 3, 7, 7), keys_of(2)).shape == (2, made.width)
    assert made(torch.rand(2, 3, 32, 32)).shape == (2, made.width)


def test_at_full_resolution_without_guards_whole_images_are_the_towers_input() -> None:
    config = PatchConfig(channels="keep", normalise=False, resolution=1.0)
    made = PatchTower(config, TOWERS.parse(SMALL_TOWERS["image"]), Surroundings(size=16))
    images = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(made(images), made.tower(images))
