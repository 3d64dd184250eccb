from __future__ import annotations

import math

import pytest
import torch

from pipelines.core import ConfigError
from pipelines.core.batch import Batch
from tests.trainers import two_workers
from tests.trainers.conftest import random_batch
from trainers.core.objective import Surroundings
from trainers.losses.assignment import sinkhorn
from trainers.losses.self_distillation import class_loss, koleo, patch_loss
from trainers.models.vit_registers import VitRegisters
from trainers.objectives.dinov2 import Dinov2, cut_out

SIZE, PATCHES, SAMPLES = 16, 16, 8
VIT = VitRegisters.Config(width=24, layers=2, heads=2, patch=4, registers=2)
SMALL = {"vit": VIT, "hidden": 16, "projection": 8, "prototypes": 12}
TWO_WORKERS = """
from tests.trainers import two_workers
from tests.trainers.objectives import test_dinov2
two_workers.small = test_dinov2.case
"""
CASES: dict[str, dict[str, object]] = {
    "sinkhorn": {"local_crops": 0},
    "centre": {"local_crops": 0, "targets": "centre"},
    "crops": {"local_crops": 3},
}


def small(**changes: object) -> Dinov2:
    torch.manual_seed(0)
    return Dinov2(Dinov2.Config(**{**SMALL, **changes}), Surroundings(size=SIZE))


def disturbed(**changes: object) -> Dinov2:
    """In double precision, as if trained: teacher, student and centres all differ."""
    objective = small(**changes).double()
    with torch.no_grad():
        for parameter in objective.student.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
        objective.class_centre.normal_(std=0.1)
        objective.patch_centre.normal_(std=0.1)
    return objective


def case(name: str) -> Dinov2:
    objective = disturbed(**CASES[name])
    if name == "crops":
        # The library interpolates positions in single precision: their gradient is not exact.
        objective.student.tower._model.embeddings.position_embeddings.requires_grad_(False)
    return objective


def batch_of(objective: Dinov2, seed: int = 0) -> Batch:
    return two_workers.double_batch(objective, seed)


def spied(objective: Dinov2, batch: Batch) -> list[torch.Tensor | None]:
    """Masks of the student's passes, large views first."""
    seen: list[torch.Tensor | None] = []
    tokens = objective.student.tower.tokens
    objective.student.tower.tokens = lambda images, masked=None: (
        seen.append(masked) or tokens(images, masked)
    )
    objective(batch)
    return seen


def state_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("local_crops", [0, 3])
def test_the_loss_is_the_weighted_sum_of_its_parts(local_crops: int) -> None:
    objective = disturbed(local_crops=local_crops, patch_weight=0.7, koleo_weight=0.2)
    batch = batch_of(objective)
    mask = spied(objective, batch)[0]
    masked = mask.nonzero()  # by view and place
    large = torch.cat([batch.views["a"], batch.views["b"]])
    student, teacher = objective.student, objective.teacher.module

    seen, theirs = student.tower.tokens(large, mask), teacher.tower.tokens(large)
    views = seen.image
    if local_crops:
        views = torch.cat([views, student.tower(objective.local_views(batch))])
    scores = student.class_head(views).view(2 + local_crops, SAMPLES, 12)
    targets = sinkhorn(teacher.class_head(theirs.image), 0.04, 3).view(2, SAMPLES, 12)
    found = student.patch_head(seen.patches[masked[:, 0], masked[:, 1]])
    hidden = sinkhorn(teacher.patch_head(theirs.patches[masked[:, 0], masked[:, 1]]), 0.04, 3)
    parts = {
        "class": class_loss(scores, targets, 0.1),
        "patch": patch_loss(found[None], hidden[None], 0.1),
        "koleo": koleo(seen.image[:SAMPLES]) + koleo(seen.image[SAMPLES:]),
    }
    output = objective(batch)
    for name, part in parts.items():
        torch.testing.assert_close(output.metrics[name], part.detach())
    expected = parts["class"] + 0.7 * parts["patch"] + 0.2 * parts["koleo"]
    torch.testing.assert_close(output.loss, expected)


@pytest.mark.parametrize(("share", "count"), [(0.3, 5), (0.5, 8), (0.9, 14)])
def test_the_masked_share_is_exact_in_one_of_the_two_views(share: float, count: int) -> None:
    objective = small(masked=share)
    mask, *local = spied(objective, random_batch(objective, 40, SIZE))
    counts = mask.sum(1).view(2, 40)
    assert torch.equal(counts.sum(0), torch.full((40,), count))
    assert set(counts.flatten().tolist()) == {0, count}
    assert 8 < (counts[0] > 0).sum() < 32  # either view's turn
    assert local == [None]


def test_masked_pixels_are_not_seen_by_the_student() -> None:
    tower = small().student.tower
    images = torch.rand(2, 3, SIZE, SIZE)
    mask = torch.zeros(2, PATCHES, dtype=torch.bool)
    mask[:, 5] = True
    before = tower.tokens(images, mask)
    images[:, :, 4:8, 4:8] = 9
    for token, other in zip(tower.tokens(images, mask), before, strict=True):
        assert torch.equal(token, other)
    assert not torch.equal(tower(images), before.image)


def test_everything_random_comes_from_the_keys() -> None:
    objective = small()
    batch = random_batch(objective, 4, SIZE)
    before = torch.get_rng_state()
    first, crops = objective(batch).loss, objective.local_views(batch)
    assert torch.equal(objective(batch).loss, first)
    assert torch.equal(objective.local_views(batch), crops)
    assert torch.equal(torch.get_rng_state(), before)
    other = Batch(batch.samples, batch.keys + 1, batch.views)
    assert not torch.equal(objective(other).loss, first)
    assert (objective.local_views(other) != crops).flatten(1).any(1).all()


def test_local_views_are_smaller_and_differ_from_one_another() -> None:
    objective = small(local_crops=4)
    batch = random_batch(objective, 3, SIZE)
    views = objective.local_views(batch).view(4, 3, 3, 8, 8)
    for one in range(4):
        for other in range(one):
            assert (views[one] != views[other]).flatten(1).any(1).all()


def test_a_crop_shows_a_square_of_the_stated_share_inside_the_image() -> None:
    line = (torch.arange(64.0) + 0.5) / 64
    images = torch.stack([line.expand(64, 64), line[:, None].expand(64, 64)])
    images = images[None].expand(500, -1, -1, -1)
    images = torch.cat([images, images[:, :1]], 1)
    keys = torch.randint(-(2**62), 2**62, (500,), generator=torch.Generator().manual_seed(0))
    crops = cut_out(images, keys, 7, 16, (0.1, 0.4))
    assert crops.shape == (500, 3, 16, 16)
    sides = (
        (crops[:, 0, 0, 8] - crops[:, 0, 0, 7]) * 16,
        (crops[:, 1, 8, 0] - crops[:, 1, 7, 0]) * 16,
    )
    torch.testing.assert_close(sides[0], sides[1], rtol=1e-3, atol=1e-4)
    area = sides[0].square()
    assert area.min() > 0.099
    assert area.max() < 0.401
    assert area.mean().item() == pytest.approx(0.25, abs=0.02)
    for axis in range(2):  # crops lie anywhere, and none leaves the image
        start = crops[:, axis].amin((1, 2)) - sides[axis] / 32
        end = crops[:, axis].amax((1, 2)) + sides[axis] / 32
        assert start.min() > -0.01
        assert end.max() < 1.01
        assert start.min() < 0.05
        assert end.max() > 0.95
    whole = cut_out(images, keys, 7, 64, (1.0, 1.0))
    torch.testing.assert_close(whole, images, rtol=1e-4, atol=1e-5)


def test_autocast_does_not_move_what_is_cut_out() -> None:
    images = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    plain = cut_out(images, torch.arange(8), 7, 32, (0.1, 0.4))
    with torch.autocast("cpu", torch.bfloat16):
        cast = cut_out(images, torch.arange(8), 7, 32, (0.1, 0.4))
    assert torch.equal(cast, plain)


def test_the_teacher_follows_and_stands_at_the_end() -> None:
    objective = disturbed(momentum=0.9)
    student, before = state_of(objective.student), state_of(objective.teacher.module)
    objective.after_step(0.5)
    expected = {name: value + 0.05 * (student[name] - value) for name, value in before.items()}
    for name, value in objective.teacher.module.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-12)
    objective.after_step(1.0)
    for name, value in objective.teacher.module.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("targets", ["sinkhorn", "centre"])
def test_a_state_restores_teacher_temperature_and_centres(targets: str) -> None:
    objective = disturbed(targets=targets)
    batch = batch_of(objective)
    objective(batch)
    objective.after_step(0.2)
    other = small(targets=targets).double()
    assert not torch.equal(other(batch).loss, objective(batch).loss)
    other.load_state_dict(objective.state_dict())
    assert torch.equal(other(batch).loss, objective(batch).loss)
    assert not any(parameter.requires_grad for parameter in other.teacher.parameters())


def test_the_temperature_rises_and_stays() -> None:
    objective = small(warmup=0.25, teacher_temperature=(0.04, 0.08))
    found = [objective.temperature().item()]
    for step in range(1, 101):
        objective.after_step(step / 100)
        found.append(objective.temperature().item())
    assert found[0] == pytest.approx(0.04)
    assert found[5] == pytest.approx(0.048)
    assert found[25:] == pytest.approx([0.08] * 76)
    assert found == sorted(found)


def test_targets_get_no_gradient() -> None:
    for targets in ("sinkhorn", "centre"):
        objective = disturbed(targets=targets)
        objective(batch_of(objective)).loss.backward()
        assert all(parameter.grad is None for parameter in objective.teacher.parameters())
        assert all(p.grad is not None for p in objective.student.parameters())


def test_centres_follow_the_teachers_scores_after_the_step_alone() -> None:
    objective = disturbed(targets="centre", centre_momentum=0.8)
    batch = batch_of(objective)
    large = torch.cat([batch.views["a"], batch.views["b"]])
    teacher = objective.teacher.module
    scores = teacher.class_head(teacher.tower(large)).detach()
    before = objective.class_centre.clone()
    assert torch.equal(objective(batch).loss, objective(batch).loss)
    assert torch.equal(objective.class_centre, before)
    objective.after_step(0.1)
    expected = 0.8 * before + 0.2 * scores.mean(0)
    torch.testing.assert_close(objective.class_centre, expected)
    objective.after_step(0.2)  # a step that was left out brings no scores
    torch.testing.assert_close(objective.class_centre, expected)


def test_components_are_one_colour_a_patch() -> None:
    objective = small()
    images = torch.rand(3, 3, SIZE, 2 * SIZE) * 2 - 1
    before = state_of(objective)
    (found,) = objective.pictures(images).values()
    assert found.shape == (3, SIZE, 2 * SIZE, 3)
    assert found.dtype == torch.uint8
    patches = found.view(3, 4, 4, 8, 4, 3)
    assert torch.equal(patches, patches[:, :, :1, :, :1].expand_as(patches))
    assert found.amin((0, 1, 2)).tolist() == [0, 0, 0]
    assert found.amax((0, 1, 2)).tolist() == [255, 255, 255]
    assert torch.equal(next(iter(objective.pictures(images).values())), found)
    for name, value in objective.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_components_part_two_kinds_of_patches() -> None:
    images = torch.full((2, 3, SIZE, SIZE), -1.0)
    images[:, :, :, 8:] = 1
    (found,) = small().pictures(images).values()
    first = found[..., 0].float()
    assert (first[:, :, :8].mean() - first[:, :, 8:].mean()).abs() > 128


def test_registers_differ_and_other_sizes_have_positions_between() -> None:
    tower = small().student.tower
    images = torch.rand(2, 3, SIZE, SIZE)
    tokens = tower.tokens(images)
    assert [tuple(part.shape) for part in tokens] == [(2, 24), (2, 2, 24), (2, 16, 24)]
    assert not torch.allclose(tokens.registers[:, 0], tokens.registers[:, 1])
    assert tower.tokens(torch.rand(2, 3, 8, 8)).patches.shape == (2, 4, 24)


@pytest.mark.parametrize(("size", "masked"), [(18, 0.3), (16, 0.01), (16, 0.99)])
def test_a_size_that_patches_do_not_fit_is_refused(size: int, masked: float) -> None:
    with pytest.raises(ConfigError, match=r"objective\.vit\.patch: 4 does not split"):
        Dinov2(Dinov2.Config(masked=masked), Surroundings(size=size))


def test_the_excess_over_the_targets_entropy_vanishes_on_a_fixed_batch() -> None:
    objective = small(local_crops=0, koleo_weight=0.0, patch_weight=0.0)
    batch = random_batch(objective, SAMPLES, SIZE)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    excess = []
    for _ in range(60):
        output = objective(batch)
        excess.append(output.loss.item() - output.metrics["entropy"].item())
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
    assert 0 <= excess[-1] < 0.2 * excess[0]
    assert math.isfinite(excess[0])


def test_two_workers_equal_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two_workers, "KINDS", tuple(CASES))
    monkeypatch.setattr(two_workers, "SCRIPT", TWO_WORKERS + two_workers.SCRIPT)
    monkeypatch.setattr(two_workers, "small", case)
    found = two_workers.on_two_workers.__wrapped__()
    monkeypatch.setattr(two_workers, "on_two_workers", lambda: found)
    for name in CASES:
        two_workers.assert_two_equal_one(name)


def test_what_features_are_pooled_from_does_not_change_the_loss() -> None:
    losses = []
    for pooling, width in (("class", 24), ("flat", 24 * PATCHES)):
        objective = small(vit=VIT.model_copy(update={"pooling": pooling}))
        batch = random_batch(objective, SAMPLES, SIZE)
        losses.append(objective(batch).loss.item())
        assert objective.encoders()["image"](batch.views["a"]).shape == (SAMPLES, width)
    assert losses[0] == losses[1]
