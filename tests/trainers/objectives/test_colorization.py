from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipelines.augment.none import Nothing
from pipelines.core.batch import Batch
from tests.trainers.conftest import random_batch
from trainers.core.objective import Surroundings
from trainers.lab import ab_bins, rgb_to_lab
from trainers.models.convnext import ConvNext
from trainers.objectives.colorization import Colorization, rebalanced

SIZE, CELLS = 16, 4


def small(size: int = SIZE) -> Colorization:
    torch.manual_seed(0)
    config = Colorization.Config(
        image=ConvNext.Config(widths=(16, 32), depths=(1, 1), patch=4),
        augmentation=Nothing.Config(),
        cells=CELLS,
        hidden=16,
    )
    return Colorization(config, Surroundings(size=size))


def naive_weights(counts: list[int], mixed: float) -> list[float]:
    total = sum(counts) + len(counts)
    p = [(count + 1) / total for count in counts]
    w = [1 / ((1 - mixed) * v + mixed / len(p)) for v in p]
    mean = sum(a * b for a, b in zip(p, w, strict=True))
    return [v / mean for v in w]


def naive_loss(objective: Colorization, images: torch.Tensor) -> float:
    """Sample by sample, cell by cell; the weights from this batch's colours alone."""
    bins = ab_bins(10).tolist()
    lab = rgb_to_lab((images + 1) / 2).numpy()
    logits = objective._logits(images).detach().view(len(images), CELLS, CELLS, -1).numpy()
    side, counts, terms = SIZE // CELLS, [0] * len(bins), []
    for sample in range(len(images)):
        for row in range(CELLS):
            for column in range(CELLS):
                rows = slice(row * side, (row + 1) * side)
                columns = slice(column * side, (column + 1) * side)
                colour = lab[sample, 1:, rows, columns].mean((1, 2)).tolist()
                distance = [math.dist(colour, centre) for centre in bins]
                near = sorted(range(len(bins)), key=distance.__getitem__)[:5]
                shares = np.exp([-(distance[q] ** 2) / 50 for q in near])
                values = logits[sample, row, column]
                logs = values - math.log(np.exp(values).sum())
                terms.append((near[0], -float(shares / shares.sum() @ logs[near])))
                counts[near[0]] += 1
    weights = naive_weights(counts, 0.5)
    return sum(weights[q] * loss for q, loss in terms) / len(terms)


def test_the_loss_equals_its_formula() -> None:
    objective = small().double()
    images = random_batch(objective, 3, SIZE).views["image"].double() * 0.8
    loss = objective(Batch(torch.arange(3), torch.arange(3), {"image": images})).loss
    assert loss.item() == pytest.approx(naive_loss(objective, images), rel=1e-6)


@pytest.mark.parametrize("mixed", [0.5, 0.1, 1.0])
def test_rare_colours_weigh_more(mixed: float) -> None:
    counts = [1000, 0, 10, 200]
    weights = rebalanced(torch.tensor(counts), mixed)
    assert weights.tolist() == pytest.approx(naive_weights(counts, mixed), rel=1e-6)
    if mixed < 1:
        assert weights.argsort().tolist() == [0, 3, 2, 1]


def test_without_counts_all_colours_weigh_the_same() -> None:
    assert rebalanced(torch.zeros(7, dtype=torch.int64), 0.5).tolist() == pytest.approx([1] * 7)


def test_colours_are_counted_in_training_only_and_kept_in_checkpoints() -> None:
    objective = small()
    batch = random_batch(objective, 3, SIZE)
    objective.eval()(batch)
    assert objective.counts.sum() == 0
    objective.train()(batch)
    objective(batch)
    assert objective.counts.sum() == 2 * 3 * CELLS**2
    assert torch.equal(objective.state_dict()["counts"], objective.counts)
    assert objective.to(torch.bfloat16).counts.dtype == torch.int64


def test_counts_of_two_workers_are_those_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, half = small(), small()
    batch = random_batch(whole, 4, SIZE)
    parts = [
        Batch(batch.samples[s], batch.keys[s], {"image": batch.views["image"][s]})
        for s in (slice(0, 2), slice(2, 4))
    ]
    other = small()
    other(parts[1])
    monkeypatch.setattr(
        "trainers.objectives.colorization.gather",
        lambda rows: torch.cat([rows, other.counts[None]]),
    )
    half(parts[0])
    monkeypatch.undo()
    whole(batch)
    assert torch.equal(half.counts, whole.counts)


def test_the_tower_sees_no_colour() -> None:
    tower = small().encoders()["image"]
    images = torch.rand(4, 3, SIZE, SIZE) * 2 - 1
    lightness = rgb_to_lab((images + 1) / 2)[:, :1]
    grey = torch.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness * 27 / 24389)
    grey = torch.where(grey > 0.0031308, 1.055 * grey ** (1 / 2.4) - 0.055, 12.92 * grey)
    same = tower((grey * 2 - 1).expand(-1, 3, -1, -1))
    torch.testing.assert_close(same, tower(images), atol=1e-3, rtol=1e-3)


def bars(count: int, random: torch.Generator) -> torch.Tensor:
    """Upright bars are red, level ones blue, at the same lightness on average."""
    bar = (torch.arange(SIZE) // 2 % 2).float()
    upright = bar.expand(SIZE, SIZE)
    chosen = (torch.rand(count, generator=random) < 0.5).view(-1, 1, 1)
    shade = 0.6 + 0.4 * torch.where(chosen, upright, upright.T)
    shade = shade * (0.8 + 0.2 * torch.rand(count, 1, 1, generator=random))
    red, blue = torch.tensor([0.9, 0.3, 0.3]), torch.tensor([0.3, 0.4, 0.9])
    colour = torch.where(chosen, red, blue)
    return colour.view(count, 3, 1, 1) * shade[:, None] * 2 - 1


def test_it_learns_colours_that_forms_tell_and_paints_them() -> None:
    objective, random = small(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    for _ in range(80):
        images = bars(32, random)
        objective(Batch(torch.arange(32), torch.arange(32), {"image": images})).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    images = bars(64, random)
    before = objective.counts.clone()
    painted = objective.paint(images)
    assert painted.shape == images.shape
    assert painted.min() >= -1
    assert painted.max() <= 1
    assert torch.equal(objective.counts, before)
    redder = (images[:, 0] - images[:, 2]).mean((1, 2)) > 0
    assert ((painted[:, 0] - painted[:, 2]).mean((1, 2)) > 0).tolist() == redder.tolist()
    grey = rgb_to_lab((images + 1) / 2)[:, 0]
    error = (rgb_to_lab((painted + 1) / 2)[:, 0] - grey).abs()
    assert error.median() < 1  # only clipped colours lose their lightness


def test_paint_takes_the_annealed_mean() -> None:
    objective = small()
    images = torch.zeros(1, 3, CELLS, CELLS)
    logits = torch.randn(CELLS**2, len(objective.bins))
    objective._logits = lambda images: logits  # type: ignore[method-assign]
    shares = np.exp(logits.double().numpy() / 0.38)
    ab = shares / shares.sum(1, keepdims=True) @ ab_bins(10).double().numpy()
    got = rgb_to_lab((objective.paint(images) + 1) / 2)[0, 1:].flatten(1).T
    inside = (objective.paint(images)[0].abs() < 0.999).all(0).flatten()
    assert inside.sum() > 4
    np.testing.assert_allclose(got[inside], ab[inside.numpy()], atol=0.05)
