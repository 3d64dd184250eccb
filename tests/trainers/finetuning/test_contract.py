"""What every mode keeps to, whoever wrote it; and what each is equal to."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipelines.core import ConfigError, UserError, discover, validate
from trainers.core.evaluation import EvaluationData
from trainers.core.fakes import FakeLoad, fake_data
from trainers.core.objective import Surroundings
from trainers.epochs import shuffled
from trainers.evaluations.knn import Knn
from trainers.evaluations.linear_probe import LinearProbe
from trainers.few_labels import Labels, few
from trainers.finetune_task import Learned, Task, outputs
from trainers.finetuning import MODES
from trainers.labels import LabelledConfig, load_labelled
from trainers.models import TOWERS

CPU = torch.device("cpu")
DENSE = "dense"  # its labels are masks: see test_dense.py
MODES_FOUND = sorted({*discover("trainers.finetuning")} - {DENSE})
FAST = {"full": {"epochs": 4, "batch": 16, "optimizer": {"learning_rate": 0.01}}}
TOWER = {"kind": "convnext", "widths": [8, 16], "depths": [1, 1], "patch": 4}


def coloured(samples: int, seed: int, noise: int = 40) -> EvaluationData:
    """Random pixels, each of three groups with a channel of its own brighter than the others."""
    data = fake_data(samples, groups=3, concepts=9, size=8, seed=seed)
    groups = [int(label[-1]) for label in data.texts["json.group"]]
    images = data.images // 3
    for place, group in enumerate(groups):
        images[place, ..., group] += noise
    return EvaluationData(data.keys, images, data.texts)


SETS = {"test": coloured(60, 0), "shift": coloured(45, 2, noise=10), "train": coloured(90, 1)}


def load():
    return few(FakeLoad(SETS), "train", "json.group", Labels(per_class=12), 0)


def task_of(tower: nn.Module | None = None, seed: int = 0) -> Task:
    torch.manual_seed(0)
    made = tower or TOWERS.build(TOWERS.parse(TOWER), Surroundings(size=8))
    sets = {
        name: load_labelled(load(), LabelledConfig(name=name, data=name, reference="train"))
        for name in ("test", "shift")
    }
    return Task(made, sets, seed, CPU, lambda done, total: None)


def learn(kind: str, task: Task, **changes: object) -> Learned:
    config = MODES.parse({"kind": kind, **FAST.get(kind, {}), **changes})
    return MODES.build(config).run(task)


class Encoders:
    def __init__(self, tower: nn.Module):
        self._tower = tower

    def features(self, images):
        return outputs(self._tower, images, CPU)


@pytest.mark.parametrize("kind", MODES_FOUND)
def test_every_stage_is_scored_on_every_set_and_the_tower_is_left_alone(kind):
    task, seen = task_of(), []
    before = {name: value.clone() for name, value in task.tower.state_dict().items()}
    task = Task(task.tower, task.sets, 0, CPU, lambda done, total: seen.append((done, total)))
    learned = learn(kind, task)
    stages = {score.stage for score in learned.scores}
    assert {(s.stage, s.dataset) for s in learned.scores} == {
        (stage, name) for stage in stages for name in ("test", "shift")
    }
    for score in learned.scores:
        low, high = score.outcome.interval
        assert 0 <= low <= score.outcome.metrics["accuracy"] <= high <= 1
        assert score.outcome.examples == len(SETS[score.dataset])
        assert score.outcome.chance == pytest.approx(1 / 3)
    for name, value in task.tower.state_dict().items():
        assert torch.equal(value, before[name])
        assert learned.weights[f"tower.{name}"].shape == value.shape
    assert seen == [(step, 12) for step in range(1, 13)] * (kind == "full")


@pytest.mark.parametrize("kind", MODES_FOUND)
def test_equal_tasks_have_equal_results(kind):
    one, other = learn(kind, task_of()), learn(kind, task_of())
    assert one.scores == other.scores
    assert all(torch.equal(value, other.weights[name]) for name, value in one.weights.items())


@pytest.mark.parametrize("kind", MODES_FOUND)
def test_features_that_are_no_numbers_are_refused(kind):
    class Diverged(nn.Module):
        def forward(self, images):
            return images.flatten(1) * float("nan")

    with pytest.raises(UserError, match="not finite numbers"):
        learn(kind, task_of(Diverged()))


@pytest.mark.parametrize("kind", MODES_FOUND)
def test_config_round_trip_and_unknown_keys(kind):
    config = MODES.parse({"kind": kind})
    assert MODES.parse(MODES.dump(config)) == config
    with pytest.raises(ConfigError, match="unknown key"):
        validate(MODES.get(kind).config, {"epoch": 3}, kind)


@pytest.mark.parametrize("name", ["test", "shift"])
def test_probe_and_knn_are_the_evaluations_on_the_same_labels(name):
    task = task_of()
    data = {"name": name, "data": name, "reference": "train"}
    for kind, evaluation in (
        ("probe", LinearProbe(LinearProbe.Config.model_validate(data))),
        ("knn", Knn(Knn.Config.model_validate({**data, "gallery": 0}))),
    ):
        expected = evaluation.run(Encoders(task.tower), load())
        found = next(s for s in learn(kind, task).scores if s.dataset == name).outcome
        pictures = expected.gallery or found.gallery
        assert found == expected.model_copy(update={"gallery": pictures})


@pytest.mark.parametrize("kind", MODES_FOUND)
def test_pictures_are_of_the_last_stage_right_and_wrong_ones(kind):
    scores = learn(kind, task_of()).scores
    for score in scores:
        rows = score.outcome.gallery
        assert len(rows) == (12 if score.stage == scores[-1].stage else 0)
        for row in rows:
            query, *answers = row.cells
            assert query.mark == "query"
            assert query.text in ("group 0", "group 1", "group 2")
            for cell in answers:
                assert cell.mark == ("right" if cell.text == query.text else "wrong")
            if kind != "knn":  # there several neighbours vote
                assert row.group == {"right": "correct"}.get(answers[0].mark, "wrong")


def test_the_ends_of_the_ensemble_are_the_probe_and_the_fine_tuned_network():
    task = task_of()
    learned = learn("full", task, ensemble=[0.5])
    assert [(s.stage, s.alpha, s.dataset) for s in learned.scores] == [
        (stage, alpha, name)
        for stage, alpha in (("probe", 0.0), ("ensemble 0.5", 0.5), ("fine-tuned", 1.0))
        for name in ("test", "shift")
    ]
    probe = {score.dataset: score.outcome for score in learn("probe", task).scores}
    for score in learned.scores[:2]:
        assert score.outcome == probe[score.dataset].model_copy(update={"gallery": ()})
    for score in learned.scores[-2:]:
        labelled = task.sets[score.dataset]
        tower = TOWERS.build(TOWERS.parse(TOWER), Surroundings(size=8))
        weights = {k.removeprefix("tower."): v for k, v in learned.weights.items() if "tower" in k}
        tower.load_state_dict(weights)
        features = outputs(tower, labelled.test.images, CPU).double()
        standard = (features - learned.weights["mean"]) / learned.weights["scale"]
        weight, bias = learned.weights["head.weight"], learned.weights["head.bias"]
        logits = standard @ weight.double().T + bias
        right = logits.argmax(1) == labelled.test_labels
        assert score.outcome.metrics["accuracy"] == float(right.double().mean())


def test_a_rate_of_zero_leaves_the_probe_at_every_alpha():
    scores = learn("full", task_of(), optimizer={"learning_rate": 0.0}).scores
    found = [s.outcome for s in scores if s.dataset == "test"]
    assert len({o.model_dump_json(exclude={"gallery"}) for o in found}) == 1


def test_training_fits_the_labels_better_than_the_probe():
    task = task_of()
    images, labels = task.labelled.reference.images, task.labelled.reference_labels

    def loss(weights) -> float:
        tower = TOWERS.build(TOWERS.parse(TOWER), Surroundings(size=8))
        tower.load_state_dict(
            {k.removeprefix("tower."): v for k, v in weights.items() if "tower" in k}
        )
        standard = (outputs(tower, images, CPU) - weights["mean"]) / weights["scale"]
        logits = standard @ weights["head.weight"].T + weights["head.bias"]
        return float(F.cross_entropy(logits, labels))

    assert loss(learn("full", task).weights) < 0.7 * loss(learn("probe", task).weights)


def test_another_seed_is_another_training():
    one, other = (learn("full", task_of(seed=seed)).weights for seed in (0, 1))
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_weights_that_are_averaged_are_what_is_scored_and_kept():
    plain, slow = (
        learn("full", task_of(), optimizer={"learning_rate": 0.01, "ema": ema}).weights
        for ema in (None, 0.999)
    )
    probe = learn("probe", task_of()).weights["head.weight"]
    moved = [float((w["head.weight"] - probe).norm()) for w in (plain, slow)]
    assert 0 < moved[1] < moved[0]


def test_a_warm_up_that_never_ends_is_refused():
    for warmup in (200, 73):
        with pytest.raises(ConfigError, match=f"{warmup} of 144 pictures in all epochs, over half"):
            learn("full", task_of(), optimizer={"warmup": warmup})
    learn("full", task_of(), optimizer={"warmup": 72})


def test_a_single_step_at_a_rate_of_nothing_is_refused():
    changes = {"epochs": 1, "batch": 64}
    with pytest.raises(ConfigError, match=r"36 pictures in one step, .* would change nothing"):
        learn("full", task_of(), **changes)
    learned = learn("full", task_of(), **changes, optimizer={"final_rate": 0.5, "warmup": 0})
    probe = learn("probe", task_of()).weights["head.weight"]
    assert not torch.equal(learned.weights["head.weight"], probe)


def test_a_loss_that_is_no_number_is_one_line():
    with pytest.raises(UserError, match=r"not finite in epoch \d; lower mode.optimizer"):
        learn("full", task_of(), optimizer={"learning_rate": 1e30, "clip": 0.0})


def test_a_step_is_never_much_smaller_than_others():
    full, task = MODES.build(MODES.parse({"kind": "full"})), task_of()
    some = list(shuffled(0, 0, 36, math.ceil(36 / 16)))
    assert [len(numbers) for numbers, _ in some] == [12, 12, 12]
    seen = torch.cat([numbers for numbers, _ in some])
    assert sorted(seen.tolist()) == list(range(36))
    again = torch.cat([numbers for numbers, _ in shuffled(0, 1, 36, 3)])
    assert not torch.equal(seen, again)
    for numbers, keys in some:
        batch = full._batch(task, numbers, keys)
        assert torch.equal(batch.views["label"], task.labelled.reference_labels[numbers])
