"""Segmentation: what is learned, how it is scored, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pipelines.core import ConfigError, UserError, validate
from pipelines.core.batch import Batch
from trainers.classifier import Classifier
from trainers.core.evaluation import EvaluationData
from trainers.core.objective import Surroundings
from trainers.finetune_task import Learned, Task
from trainers.finetuning import MODES
from trainers.labels import Labelled
from trainers.models import TOWERS
from trainers.segmentation import DenseNetwork, confusions, dense_outcome, mean_iou

CPU = torch.device("cpu")
TOWER = {"kind": "vit", "width": 24, "layers": 1, "heads": 2, "patch": 4}
CLASSES = ("dark", "red", "green")
COLOURS = np.array([[20, 20, 20], [220, 40, 40], [40, 200, 40]])


def quartered(samples: int, seed: int) -> EvaluationData:
    """Pictures of four squares, each of a class's colour; some pixels of the mask do not count."""
    random = np.random.default_rng(seed)
    classes = random.integers(0, 3, (samples, 2, 2))
    masks = classes.repeat(8, 1).repeat(8, 2)
    noise = random.integers(-20, 20, (samples, 16, 16, 3))
    images = (COLOURS[masks] + noise).clip(0, 255).astype(np.uint8)
    stored = masks.astype(np.uint8)
    stored[:, 0] = 255
    return EvaluationData([f"{n}" for n in range(samples)], images, {}, stored)


def task_of(tower: nn.Module | None = None, seed: int = 0, masks: bool = True) -> Task:
    torch.manual_seed(0)
    made = tower or TOWERS.build(TOWERS.parse(TOWER), Surroundings(size=16))
    train, sets = quartered(24, 0), {"test": quartered(20, 1), "shift": quartered(12, 2)}
    if not masks:
        train = replace(train, masks=None)

    def labelled(data: EvaluationData) -> Labelled:
        none = [torch.zeros(len(d), dtype=torch.int64) for d in (data, train)]
        return Labelled(("",), 1, data, none[0], train, none[1])

    found = {name: labelled(data) for name, data in sets.items()}
    return Task(made, found, seed, CPU, lambda done, total: None, CLASSES)


def learn(task: Task, **changes: object) -> Learned:
    fast = {"head_epochs": 15, "epochs": 5, "batch": 8, "head_rate": 0.05}
    config = MODES.parse({"kind": "dense", **fast, **changes})
    learned: Learned = MODES.build(config).run(task)
    return learned


def test_every_stage_is_scored_on_every_set_and_the_tower_is_left_alone() -> None:
    task = task_of()
    before = {name: value.clone() for name, value in task.tower.state_dict().items()}
    learned = learn(task)
    assert [(s.stage, s.alpha, s.dataset) for s in learned.scores] == [
        (stage, alpha, name)
        for stage, alpha in (("probe", 0.0), ("ensemble 0.5", 0.5), ("fine-tuned", 1.0))
        for name in ("test", "shift")
    ]
    for score in learned.scores:
        low, high = score.outcome.interval
        assert 0 <= low <= score.outcome.metrics["mean_iou"] <= high <= 1
        assert score.outcome.examples == len(task.sets[score.dataset].test)
        assert score.outcome.chance < 0.2
        rows = score.outcome.gallery
        assert len(rows) == (12 if score.stage == "fine-tuned" else 0)
        assert all([cell.mark for cell in row.cells] == ["query", "", ""] for row in rows)
        assert all(set(row.cells[2].text.split(", ")) <= set(CLASSES) for row in rows)
    for name, value in task.tower.state_dict().items():
        assert torch.equal(value, before[name])
    assert any(not torch.equal(learned.weights[f"tower.{name}"], before[name]) for name in before)


def test_squares_are_found_by_their_colour() -> None:
    scores = {(s.stage, s.dataset): s.outcome.metrics for s in learn(task_of()).scores}
    assert scores["probe", "test"]["mean_iou"] > 0.85
    assert scores["probe", "test"]["pixel_accuracy"] > 0.9


def test_without_epochs_the_head_alone_learns() -> None:
    task = task_of()
    learned = learn(task, epochs=0)
    assert {score.stage for score in learned.scores} == {"probe"}
    for name, value in task.tower.state_dict().items():
        assert torch.equal(learned.weights[f"tower.{name}"], value)


def test_each_stage_is_scored_with_its_share_of_the_fine_tuned_weights() -> None:
    task = task_of()
    start, learned = learn(task, epochs=0), learn(task, ensemble=[0.25])
    network = DenseNetwork(
        TOWERS.build(TOWERS.parse(TOWER), Surroundings(size=16)),
        {"head.weight": torch.zeros(3, 24), "head.bias": torch.zeros(3)},
    )
    found: dict[str, list[float]] = {}
    for score in learned.scores:
        mixed = {
            name: torch.lerp(value, learned.weights[name], score.alpha or 0.0)
            for name, value in start.weights.items()
        }
        network.load_state_dict(mixed)
        test = task.sets[score.dataset].test
        assert test.masks is not None
        counted = confusions(network, test.images, test.masks, 3, CPU).sum(0)
        assert score.outcome.metrics["mean_iou"] == float(mean_iou(counted))
        found.setdefault(score.dataset, []).append(score.outcome.metrics["mean_iou"])
    assert [len(set(scores)) for scores in found.values()] == [3, 3]  # stages differ
    for score, probe in zip(learned.scores[:2], start.scores, strict=True):
        assert score.outcome == probe.outcome.model_copy(update={"gallery": ()})


def test_equal_tasks_have_equal_results_and_another_seed_other_ones() -> None:
    one, same, other = (learn(task_of(seed=seed), epochs=1) for seed in (0, 0, 1))
    assert one.scores == same.scores
    assert torch.equal(one.weights["head.weight"], same.weights["head.weight"])
    assert not torch.equal(one.weights["head.weight"], other.weights["head.weight"])


def test_a_mirrored_picture_has_its_mask_mirrored() -> None:
    task, some = task_of(), torch.arange(4)
    modes = (MODES.build(MODES.parse({"kind": "dense", "flip": share})) for share in (1.0, 0.0))
    mirrored, plain = (mode._batch(task, some, some).views for mode in modes)
    assert torch.equal(mirrored["image"], plain["image"].flip(3))
    assert torch.equal(mirrored["label"], plain["label"].flip(2))
    assert (plain["label"][:, 0] == -100).all()


class Fixed(nn.Module):
    """Says of every pixel of the left half class 0, of the right half class 1."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(images), 2, 4, 4)
        logits[:, 1, :, :2] = -1
        logits[:, 1, :, 2:] = 1
        return logits


def test_pixels_are_counted_by_what_they_are_and_what_is_said() -> None:
    masks = np.zeros((1, 4, 4), np.uint8)
    masks[0, 0], masks[0, 1], masks[0, 2] = 255, 1, 7  # not counted, the second class, unknown
    counted = confusions(Fixed(), np.zeros((1, 4, 4, 3), np.uint8), masks, 2, CPU)
    assert counted.tolist() == [[[2, 2], [2, 2], [2, 2]]]
    # Of each class 2 are right, 4 are, and 6 are said to be.
    assert float(mean_iou(counted[0])) == pytest.approx(2 / 8)


def test_the_score_of_all_pixels_of_a_set_and_of_a_guesser() -> None:
    perfect = torch.tensor([[[3, 0], [0, 1], [0, 0]], [[4, 0], [0, 0], [0, 0]]])
    outcome = dense_outcome(perfect, frequent=0)
    assert outcome.metrics == {"mean_iou": 1.0, "pixel_accuracy": 1.0}
    assert outcome.interval == (1.0, 1.0)
    assert outcome.chance == pytest.approx((7 / 8 + 0) / 2)
    absent = torch.tensor([[[4, 0], [0, 0], [0, 0]]])
    assert dense_outcome(absent, 0).metrics["mean_iou"] == 1.0  # class 1 is nowhere


def test_logits_are_those_of_places_enlarged() -> None:
    tower = TOWERS.build(TOWERS.parse(TOWER), Surroundings(size=16))
    head = {"mean": torch.zeros(24), "scale": torch.ones(24)}
    head |= {"head.weight": torch.rand(3, 24), "head.bias": torch.rand(3)}
    images = torch.rand(2, 3, 16, 16)
    found = DenseNetwork(tower, head)(images)
    places = torch.einsum("cd,bdhw->bchw", head["head.weight"], tower.grid(images))
    logits = places + head["head.bias"][:, None, None]
    expected = nn.functional.interpolate(logits, (16, 16), mode="bilinear")
    torch.testing.assert_close(found, expected)


def test_data_without_masks_and_towers_without_places_are_refused() -> None:
    with pytest.raises(UserError, match="say in 'mask' where they are"):
        learn(task_of(masks=False))
    with pytest.raises(UserError, match="no features of places"):
        learn(task_of(nn.Linear(2, 2)))


def test_features_that_are_no_numbers_are_refused() -> None:
    task = task_of()
    for parameter in task.tower.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(UserError, match="not finite numbers"):
        learn(task)


def test_config_round_trip_and_unknown_keys() -> None:
    config = MODES.parse({"kind": "dense"})
    assert MODES.parse(MODES.dump(config)) == config
    with pytest.raises(ConfigError, match="unknown key"):
        validate(MODES.get("dense").config, {"epoch": 3}, "dense")


@pytest.mark.parametrize("uncounted", [0.0, 0.3, 1.0])
def test_pixels_that_do_not_count_are_left_out_of_the_loss_be_it_all(uncounted: float) -> None:
    random = torch.Generator().manual_seed(0)
    head = nn.Conv2d(3, 4, 1)
    images = torch.rand(2, 3, 5, 5, generator=random)
    labels = torch.randint(0, 4, (2, 5, 5), generator=random)
    labels[torch.rand(2, 5, 5, generator=random) < uncounted] = -100
    numbers = torch.arange(2)
    loss = Classifier(head)(Batch(numbers, numbers, {"image": images, "label": labels})).loss
    (gradient,) = torch.autograd.grad(loss, head.weight)
    if uncounted == 1:
        assert loss.item() == 0
        assert not gradient.any()
    else:
        expected = nn.functional.cross_entropy(head(images), labels)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(gradient, torch.autograd.grad(expected, head.weight)[0])


def test_a_step_without_a_pixel_that_counts_ends_no_training() -> None:
    task = task_of()
    assert task.labelled.reference.masks is not None
    task.labelled.reference.masks[:8] = 255
    assert learn(task, batch=1).scores
