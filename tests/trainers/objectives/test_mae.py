from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipelines.augment.none import Nothing
from pipelines.core import ConfigError
from pipelines.core.batch import Batch
from pipelines.core.randomness import uniform
from tests.trainers.conftest import random_batch
from trainers.core.objective import Surroundings
from trainers.models.vit import Vit
from trainers.objectives.mae import Mae, patchify

SIZE, PATCH, PATCHES = 16, 4, 16


def small(masked: float = 0.75, normalise: bool = True) -> Mae:
    torch.manual_seed(0)
    config = Mae.Config(
        vit=Vit.Config(width=32, layers=2, heads=2, patch=PATCH),
        augmentation=Nothing.Config(),
        masked=masked,
        width=32,
        normalise=normalise,
    )
    return Mae(config, Surroundings(size=SIZE))


def order_of(keys: torch.Tensor) -> np.ndarray:
    return np.argsort(uniform(keys, 1, PATCHES).numpy(), axis=1, kind="stable")


def patch_of(images: torch.Tensor, sample: int, number: int) -> torch.Tensor:
    """A view of one patch's pixels."""
    row, column = number // 4 * PATCH, number % 4 * PATCH
    return images[sample, :, row : row + PATCH, column : column + PATCH]


def with_images(batch: Batch, images: torch.Tensor) -> Batch:
    return Batch(batch.samples, batch.keys, {"image": images})


def test_patches_are_in_reading_order() -> None:
    images = torch.arange(2 * 3 * 256.0).view(2, 3, 16, 16)
    patches = patchify(images, PATCH)
    for sample in range(2):
        for number in range(PATCHES):
            expected = patch_of(images, sample, number).flatten()
            assert torch.equal(patches[sample, number], expected)


@pytest.mark.parametrize("normalise", [True, False])
def test_the_loss_equals_its_formula(normalise: bool) -> None:
    objective = small(normalise=normalise).double()
    batch = random_batch(objective, 3, SIZE)
    images, order = batch.views["image"].double(), order_of(batch.keys)
    places = torch.from_numpy(order)
    with torch.no_grad():
        predicted = objective.decoder(objective.tower.tokens(images, places[:, :4]), places)
    errors = []
    for sample in range(3):
        for place, number in enumerate(order[sample, 4:]):
            target = patch_of(images, sample, int(number)).flatten().tolist()
            if normalise:
                mean = sum(target) / 48
                variance = sum((v - mean) ** 2 for v in target) / 47
                target = [(v - mean) / math.sqrt(variance + 1e-6) for v in target]
            pairs = zip(predicted[sample, place].tolist(), target, strict=True)
            errors.append(sum((a - b) ** 2 for a, b in pairs) / 48)
    assert len(errors) == 3 * 12
    loss = objective(with_images(batch, images)).loss.item()
    assert loss == pytest.approx(sum(errors) / len(errors), rel=1e-6)


def test_only_masked_patches_count(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = small(normalise=False)
    batch = random_batch(objective, 2, SIZE)
    nothing = torch.zeros(2, 12, 48)
    monkeypatch.setattr(objective.decoder, "forward", lambda tokens, order: nothing)
    before, order = objective(batch).loss, order_of(batch.keys)
    for place in range(PATCHES):
        images = batch.views["image"].clone()
        patch_of(images, 0, int(order[0, place])).mul_(2)
        changed = not torch.equal(objective(with_images(batch, images)).loss, before)
        assert changed == (place >= 4)


def test_the_tower_sees_visible_patches_only() -> None:
    objective = small()
    batch = random_batch(objective, 2, SIZE)
    images, order = batch.views["image"], torch.from_numpy(order_of(batch.keys))
    before = objective.tower.tokens(images, order[:, :4])
    for sample in range(2):
        for number in order[sample, 4:].tolist():
            patch_of(images, sample, number).fill_(9.0)
    assert torch.equal(objective.tower.tokens(images, order[:, :4]), before)


@pytest.mark.parametrize(("masked", "kept"), [(0.75, 4), (0.5, 8), (0.9, 2), (0.3, 11)])
def test_the_mask_ratio_is_exact(masked: float, kept: int) -> None:
    objective = small(masked)
    seen = []
    objective.tower.tokens = lambda images, places: (
        seen.append(places) or torch.zeros(len(images), 1 + kept, 32)
    )
    objective(random_batch(objective, 5, SIZE))
    assert seen[0].shape == (5, kept)
    assert all(len(set(row)) == kept for row in seen[0].tolist())


def test_every_patch_is_masked_equally_often_and_by_its_key() -> None:
    keys = torch.randint(-(2**62), 2**62, (4000,), generator=torch.Generator().manual_seed(0))
    counts = np.bincount(order_of(keys)[:, 4:].ravel(), minlength=PATCHES)
    assert abs(counts - 3000).max() < 4 * math.sqrt(4000 * 0.75 * 0.25)
    objective = small()
    batch = random_batch(objective, 4, SIZE)
    before = torch.get_rng_state()
    first = objective(batch).loss
    assert torch.equal(objective(batch).loss, first)
    assert torch.equal(torch.get_rng_state(), before)
    other = Batch(batch.samples, batch.keys + 1, batch.views)
    assert not torch.equal(objective(other).loss, first)


def test_all_tokens_are_those_of_the_whole_tower() -> None:
    tower = small().tower
    images = torch.rand(3, 3, SIZE, SIZE)
    order = torch.stack([torch.randperm(PATCHES) for _ in range(3)])
    tokens = tower.tokens(images, order)
    torch.testing.assert_close(tokens[:, 1:].mean(1), tower(images))


@pytest.mark.parametrize(("size", "masked"), [(18, 0.75), (16, 0.01), (16, 0.99)])
def test_a_size_that_patches_do_not_fit_is_refused(size: int, masked: float) -> None:
    config = Mae.Config(masked=masked)
    with pytest.raises(ConfigError, match=r"objective\.vit\.patch: 4 does not split"):
        Mae(config, Surroundings(size=size))


def test_it_learns_to_continue_structured_pictures() -> None:
    objective, random = small(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    line = torch.arange(SIZE).float()

    def draw(count: int) -> Batch:
        upright = (torch.rand(count, 1, 1, generator=random) < 0.5).float()
        phase = torch.rand(count, 1, 1, generator=random) * 2 * math.pi
        along = upright * line + (1 - upright) * line[:, None]
        waves = torch.sin(along * math.pi / 4 + phase)[:, None].expand(-1, 3, -1, -1)
        keys = torch.randint(-(2**62), 2**62, (count,), generator=random)
        return Batch(torch.arange(count), keys, {"image": waves})

    for _ in range(150):
        objective(draw(32)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        assert objective(draw(200)).loss < 0.5  # the mean alone gives 47/48


def test_flat_features_are_those_of_all_patches_and_their_mean_is_the_mean() -> None:
    images = torch.rand(3, 3, SIZE, SIZE)
    towers = []
    for pooling in ("mean", "flat"):
        torch.manual_seed(0)
        config = Vit.Config(width=32, layers=2, heads=2, patch=PATCH, pooling=pooling)
        towers.append(Vit(config, Surroundings(size=SIZE)))
    mean, flat = (tower(images) for tower in towers)
    assert flat.shape == (3, towers[1].width)
    torch.testing.assert_close(flat.view(3, PATCHES, 32).mean(1), mean)


@pytest.mark.parametrize("normalise", [True, False])
def test_pictures_show_what_is_visible_and_what_is_made_of_it(normalise: bool) -> None:
    objective = small(normalise=normalise)
    torch.manual_seed(1)
    images = torch.rand(3, 3, SIZE, SIZE) * 2 - 1
    pictures = objective.pictures(images)
    plain = ((images + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
    visible, made = pictures["what is not masked"], pictures["reconstructed"]
    kept = (visible == plain).all(3)
    assert (visible[~kept] == 128).all()  # grey
    assert kept.sum((1, 2)).tolist() == [4 * PATCH**2] * 3
    assert torch.equal(made[kept], plain[kept])
    assert not torch.equal(made, plain)
    assert torch.equal(made, objective.pictures(images)["reconstructed"])  # whenever it is asked


def test_a_perfect_prediction_reconstructs_the_image() -> None:
    objective = small()
    images = torch.rand(3, 3, SIZE, SIZE) * 2 - 1

    def decoder(tokens: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
        masked = order[:, tokens.shape[1] - 1 :, None]
        patches = patchify(images, PATCH)
        target = patches.gather(1, masked.expand(-1, -1, patches.shape[2]))
        variance, mean = torch.var_mean(target, 2, keepdim=True)
        return (target - mean) / (variance + 1e-6).sqrt()

    del objective.decoder
    objective.__dict__["decoder"] = decoder
    made = objective.pictures(images)["reconstructed"].int()
    plain = ((images + 1) * 127.5).round().int().permute(0, 2, 3, 1)
    assert (made - plain).abs().max() <= 1
