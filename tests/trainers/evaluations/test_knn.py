from __future__ import annotations

import math
from collections import defaultdict

import pytest
import torch

from trainers.core.evaluation import EvaluationData
from trainers.core.fakes import FakeEncoders, FakeLoad, fake_data
from trainers.evaluations.knn import Knn

TEST, TRAIN = fake_data(80, groups=5), fake_data(120, groups=5, seed=1)


def run(model, test=TEST, train=TRAIN, **changes: object):
    config = Knn.Config.model_validate(
        {"name": "x", "data": "test", "reference": "train", **changes}
    )
    return Knn(config).run(model, FakeLoad({"test": test, "train": train}))


def naive(model: FakeEncoders, k: int, temperature: float) -> float:
    def unit(images):
        return torch.nn.functional.normalize(model.features(images).double(), dim=1)

    reference, right = unit(TRAIN.images), 0
    labels = TRAIN.texts["json.group"]
    for feature, truth in zip(unit(TEST.images), TEST.texts["json.group"], strict=True):
        cosines = [float(feature @ other) for other in reference]
        votes: dict[str, float] = defaultdict(float)
        for i in sorted(range(len(labels)), key=lambda i: -cosines[i])[:k]:
            votes[labels[i]] += math.exp(cosines[i] / temperature)
        right += max(votes, key=lambda label: votes[label]) == truth
    return right / len(TEST)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.07), (20, 0.07), (20, 10.0)])
def test_agrees_with_a_loop(k, temperature):
    model = FakeEncoders(TEST, TRAIN, signal=0.25, dimensions=16)
    outcome = run(model, k=k, temperature=temperature)
    assert outcome.metrics["accuracy"] == pytest.approx(naive(model, k, temperature))
    assert 0.2 < outcome.metrics["accuracy"] < 1
    assert outcome.metrics["unknown_labels"] == 0


def test_labels_that_the_reference_lacks_are_wrong():
    labels = ["new" if i < 20 else label for i, label in enumerate(TEST.texts["json.group"])]
    test = EvaluationData(TEST.keys, TEST.images, {**TEST.texts, "json.group": labels})
    outcome = run(FakeEncoders(TEST, TRAIN), test=test)
    assert outcome.metrics["unknown_labels"] == 0.25
    assert outcome.metrics["accuracy"] == 0.75
    assert outcome.metrics["balanced_accuracy"] == pytest.approx(5 / 6)
    wrong = [row for row in outcome.gallery if row.group == "wrong"]
    assert wrong
    assert all(row.cells[0].text == "new" for row in wrong)


def test_chance_is_the_most_frequent_label_of_the_reference():
    train = EvaluationData(
        TRAIN.keys, TRAIN.images, {"json.group": ["group 3"] * 100 + ["group 0"] * 20}
    )
    labels = ["group 3"] * 8 + ["group 0"] * 72
    test = EvaluationData(TEST.keys, TEST.images, {"json.group": labels})
    assert run(FakeEncoders(), test=test, train=train).chance == pytest.approx(0.1)


def test_more_neighbours_than_pictures_are_all_pictures():
    train = fake_data(3, groups=2, seed=1)
    outcome = run(FakeEncoders(TEST, train), train=train, k=500, label="json.group")
    assert all(len(row.cells) == 1 + 3 for row in outcome.gallery)


def test_a_gallery_shows_five_neighbours_even_of_one_that_votes():
    outcome = run(FakeEncoders(TEST, TRAIN, signal=0.25), k=1)
    for row in outcome.gallery:
        query, *answers = row.cells
        assert len(answers) == 5
        assert all(cell.image for cell in row.cells)
        assert (answers[0].mark == "right") == (row.group == "correct")
        assert all((cell.mark == "right") == (cell.text == query.text) for cell in answers)


def test_needs_no_joint_space():
    assert run(FakeEncoders(TEST, TRAIN, joint=False)).metrics["accuracy"] == 1


@pytest.mark.parametrize("changes", [{"k": 0}, {"temperature": 0}, {"reference": "test"}])
def test_options_are_checked(changes):
    with pytest.raises(ValueError, match=r"greater than|find itself"):
        run(FakeEncoders(), **changes)


class Showing(FakeEncoders):
    def pictures(self, images):
        return {"shown": images}


def test_what_a_model_shows_follows_the_neighbours_for_the_same_pictures():
    plain, showing = (run(kind(TEST, TRAIN), gallery=4) for kind in (FakeEncoders, Showing))
    assert showing.gallery[:4] == plain.gallery
    assert [row.group for row in showing.gallery[4:]] == ["shown"] * 4
    assert [row.cells[0].image for row in showing.gallery[4:]] == [
        row.cells[0].image for row in plain.gallery
    ]
