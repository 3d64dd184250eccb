from __future__ import annotations

import itertools
import math

import pytest
import torch

from pipelines.augment.none import Nothing
from pipelines.core.batch import Batch
from pipelines.core.randomness import integers, part_keys
from tests.trainers import two_workers
from tests.trainers.conftest import random_batch
from trainers.core.objective import Surroundings
from trainers.models.convnext import ConvNext
from trainers.objectives.jigsaw import Jigsaw, permutations
from trainers.patches import PatchConfig

SIZE = 48


def small(channels: str = "keep", count: int = 10, size: int = SIZE) -> Jigsaw:
    torch.manual_seed(0)
    config = Jigsaw.Config(
        image=ConvNext.Config(widths=(8, 16), depths=(1, 1), patch=2),
        augmentation=Nothing.Config(),
        patches=PatchConfig(channels=channels, gap=0.1, jitter=0.15, resolution=0.25),
        permutations=count,
        hidden=32,
    )
    return Jigsaw(config, Surroundings(size=size))


def naive_permutations(count: int, tiles: int) -> list[tuple[int, ...]]:
    every = list(itertools.permutations(range(tiles)))
    chosen = [every[0]]
    while len(chosen) < count:
        best, score = every[0], (-1, -1)
        for candidate in every:
            distances = [
                sum(a != b for a, b in zip(candidate, other, strict=True)) for other in chosen
            ]
            if (min(distances), sum(distances)) > score:
                best, score = candidate, (min(distances), sum(distances))
        chosen.append(best)
    return chosen


@pytest.mark.parametrize(("count", "tiles"), [(2, 2), (6, 3), (24, 4), (12, 5), (8, 6)])
def test_permutations_are_those_of_the_greedy_rule(count: int, tiles: int) -> None:
    assert list(permutations(count, tiles)) == naive_permutations(count, tiles)


@pytest.mark.parametrize(("count", "distance"), [(9, 9), (64, 7)])
def test_permutations_of_nine_tiles_are_far_apart(count: int, distance: int) -> None:
    chosen = permutations(count, 9)
    assert all(sorted(order) == list(range(9)) for order in chosen)
    pairs = itertools.combinations(chosen, 2)
    nearest = min(sum(a != b for a, b in zip(x, y, strict=True)) for x, y in pairs)
    assert nearest >= distance


@pytest.mark.parametrize("channels", ["keep", "drop"])
def test_the_loss_is_the_mean_over_images_tile_by_tile(channels: str) -> None:
    objective = small(channels, size=24).double()
    batch = random_batch(objective, 4, 24)
    images = batch.views["image"].double()
    orders = permutations(10, 9)
    which, side = integers(batch.keys, 1, 10).tolist(), objective.layout.side
    places = objective.layout.places(batch.keys, 2)
    losses, right = [], 0
    for sample in range(4):
        keys = part_keys(batch.keys[sample : sample + 1], 9)[0]
        features = []
        for shown, tile in enumerate(orders[which[sample]]):
            row, column = places[sample, tile].tolist()
            pixels = images[sample, :, row : row + side, column : column + side]
            features.append(objective.tower(pixels[None], keys[shown : shown + 1]))
        logits = objective.head(torch.cat(features, 1))[0].tolist()
        losses.append(math.log(sum(math.exp(v) for v in logits)) - logits[which[sample]])
        right += logits[which[sample]] == max(logits)
    output = objective(Batch(batch.samples, batch.keys, {"image": images}))
    assert output.loss.item() == pytest.approx(sum(losses) / 4, rel=1e-9)
    assert output.metrics["accuracy"].item() == pytest.approx(right / 4)


def test_the_same_key_shuffles_the_same_way() -> None:
    objective = small()
    batch = random_batch(objective, 4, SIZE)
    before = torch.get_rng_state()
    first = objective(batch).loss
    assert torch.equal(objective(batch).loss, first)
    assert torch.equal(torch.get_rng_state(), before)
    other = Batch(batch.samples, batch.keys + 1, batch.views)
    assert not torch.equal(objective(other).loss, first)


def test_it_learns_to_order_tiles_of_structured_pictures() -> None:
    objective, random = small(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    line = torch.linspace(-1, 1, SIZE)
    radius = (line[:, None] ** 2 + line**2).sqrt() - 0.7

    def draw(count: int) -> Batch:
        noise = torch.randn(count, 3, SIZE, SIZE, generator=random)
        keys = torch.randint(-(2**62), 2**62, (count,), generator=random)
        return Batch(torch.arange(count), keys, {"image": (radius + 0.1 * noise).clamp(-1, 1)})

    for _ in range(40):
        objective(draw(32)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        assert objective(draw(300)).metrics["accuracy"] > 0.6  # chance 0.1


def test_a_guess_is_right_one_time_in_64() -> None:
    assert two_workers.small("jigsaw").chance == 1 / 64
