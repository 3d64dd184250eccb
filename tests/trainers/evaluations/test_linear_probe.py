from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from trainers.core.evaluation import EvaluationData
from trainers.core.fakes import FakeEncoders, FakeLoad, fake_data
from trainers.evaluations import linear_probe
from trainers.evaluations.linear_probe import LinearProbe, fit
from trainers.labels import hash_order

TEST, TRAIN = fake_data(80, groups=5), fake_data(150, groups=5, seed=1)


def run(model, test=TEST, train=TRAIN, **changes: object):
    config = LinearProbe.Config.model_validate(
        {"name": "x", "data": "test", "reference": "train", **changes}
    )
    return LinearProbe(config).run(model, FakeLoad({"test": test, "train": train}))


def problem(count: int = 60, dimensions: int = 4, classes: int = 3):
    random = torch.Generator().manual_seed(0)
    features = torch.randn(count, dimensions, generator=random, dtype=torch.float64)
    noise = torch.randn(count, classes, generator=random, dtype=torch.float64)
    return features, (features[:, :classes] + noise).argmax(1)


def loss_of(weights, features, labels, l2):
    logits = weights[0] + features @ weights[1:]
    return F.cross_entropy(logits, labels) + l2 / 2 * weights[1:].square().sum()


@pytest.mark.parametrize("l2", [0.1, 1e-3])
def test_fit_finds_the_minimum_that_plain_descent_finds(l2):
    features, labels = problem()
    weights = torch.zeros(5, 3, dtype=torch.float64, requires_grad=True)
    for _ in range(1500):
        (slope,) = torch.autograd.grad(loss_of(weights, features, labels, l2), weights)
        weights = (weights - slope).detach().requires_grad_()
    expected = loss_of(weights, features, labels, l2)
    found = loss_of(fit(features, labels, 3, l2), features, labels, l2)
    assert float(found) == pytest.approx(float(expected.detach()), abs=1e-5)


def test_fit_from_anywhere_ends_in_the_same_place_and_leaves_its_start_alone():
    features, labels = problem()
    start = torch.full((5, 3), 2.0, dtype=torch.float64)
    found = [fit(features, labels, 3, 0.1, begin) for begin in (start, None)]
    for weights in found:
        weights[0] -= weights[0].mean()  # the same number in all biases changes nothing
    torch.testing.assert_close(*found, atol=0.01, rtol=0)
    assert (start == 2).all()


def test_fit_does_not_penalise_the_bias():
    labels = torch.tensor([0] * 30 + [1] * 10)
    weights = fit(torch.zeros(40, 2, dtype=torch.float64), labels, 2, 10.0)
    torch.testing.assert_close(
        weights[0].softmax(0), torch.tensor([0.75, 0.25]).double(), atol=1e-3, rtol=0
    )


class Given:
    """A model with given features."""

    def __init__(self, **features: torch.Tensor):
        self._features = {len(rows): rows for rows in features.values()}

    def features(self, images):
        return self._features[len(images)]


def separable(shift: float, scale: float) -> Given:
    """One dimension that says the group, next to a constant one and a large noisy one."""

    def rows(data: EvaluationData, seed: int) -> torch.Tensor:
        random = torch.Generator().manual_seed(seed)
        groups = torch.tensor([int(label[-1]) for label in data.texts["json.group"]])
        told = F.one_hot(groups, 5).float()
        noise = 1000 * torch.randn(len(data), 1, generator=random)
        constant = torch.full((len(data), 1), 0.1)
        return torch.cat([told * scale + shift, noise, constant], dim=1)

    return Given(test=rows(TEST, 0), train=rows(TRAIN, 1))


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (50.0, 0.01), (-3.0, 100.0)])
def test_features_are_standardised(shift, scale):
    assert run(separable(shift, scale)).metrics["accuracy"] == 1


def test_a_constant_dimension_is_not_blown_up():
    steps = torch.arange(40.0)
    rounding = 0.1 + 1e-8 * (steps % 2)  # float32 resolves 7e-9 here
    features = torch.stack([rounding, 0.1 + steps], dim=1).double()
    assert features[:, 0].std() > 0
    mean, scale = linear_probe._moments(features)
    standard = (features - mean) / scale
    assert standard[:, 0].abs().max() < 1e-6
    assert standard[:, 1].std(correction=0) == pytest.approx(1)


def spied(monkeypatch) -> list[tuple[int, float]]:
    calls = []

    def spy(features, labels, classes, l2, start=None):
        calls.append((len(features), l2))
        return fit(features, labels, classes, l2, start)

    monkeypatch.setattr(linear_probe, "fit", spy)
    return calls


def test_l2_is_chosen_on_a_tenth_of_the_reference_then_fitted_on_all(monkeypatch):
    calls = spied(monkeypatch)
    run(FakeEncoders(TEST, TRAIN, signal=0.2), l2=(0.001, 10.0, 0.1))
    assert calls[:3] == [(135, 10.0), (135, 0.1), (135, 0.001)]
    assert len(calls) == 4
    assert calls[3][0] == 150


def test_of_equally_good_ones_the_strongest_is_chosen(monkeypatch):
    calls = spied(monkeypatch)
    run(separable(0.0, 1.0), l2=(1e-3, 1e-2))
    assert calls[-1] == (150, 1e-2)


def test_the_choice_is_the_best_on_what_is_held_out(monkeypatch):
    model = FakeEncoders(TEST, TRAIN, signal=0.15, dimensions=48)
    calls = spied(monkeypatch)
    candidates = (100.0, 1.0, 1e-2, 1e-5)
    run(model, l2=candidates)
    features = model.features(TRAIN.images).double()
    features = (features - features.mean(0)) / features.std(0, correction=0)
    labels = torch.tensor([int(label[-1]) for label in TRAIN.texts["json.group"]])
    order = hash_order(TRAIN.keys)
    held, rest = order[:15], order[15:]
    hits = []
    for l2 in candidates:
        weights = fit(features[rest], labels[rest], 5, l2)
        answers = (weights[0] + features[held] @ weights[1:]).argmax(1)
        hits.append(int((answers == labels[held]).sum()))
    assert calls[-1][1] == candidates[hits.index(max(hits))]


def test_the_test_data_choose_nothing(monkeypatch):
    model = FakeEncoders(TEST, TRAIN, signal=0.2)
    calls = spied(monkeypatch)
    run(model)
    labels = TEST.texts["json.group"][::-1]
    run(model, test=EvaluationData(TEST.keys, TEST.images[:80], {"json.group": labels}))
    assert calls[:5] == calls[5:]


def test_labels_that_the_reference_lacks_are_wrong():
    labels = ["new" if i < 20 else label for i, label in enumerate(TEST.texts["json.group"])]
    test = EvaluationData(TEST.keys, TEST.images, {**TEST.texts, "json.group": labels})
    outcome = run(FakeEncoders(TEST, TRAIN), test=test)
    assert outcome.metrics["unknown_labels"] == 0.25
    assert outcome.metrics["accuracy"] == 0.75


def test_answers_in_parts_are_the_same(monkeypatch):
    model = FakeEncoders(TEST, TRAIN, signal=0.2)
    whole = run(model)
    monkeypatch.setattr(linear_probe, "_TOGETHER", 7)
    assert run(model).metrics == whole.metrics


def test_the_smallest_reference():
    train = fake_data(2, groups=2, seed=1)
    outcome = run(FakeEncoders(TEST, train), train=train)
    assert 0 <= outcome.metrics["accuracy"] <= 1


def test_gallery_shows_shares_of_the_likeliest_labels():
    outcome = run(FakeEncoders(TEST, TRAIN, signal=0.2))
    for row in outcome.gallery:
        query, *answers = row.cells
        assert query.image
        assert sum(cell.score or 0 for cell in answers) == pytest.approx(1)  # five classes
        assert (answers[0].text == query.text) == (row.group == "correct")


@pytest.mark.parametrize("l2", [(), (0.0,), (-1.0,)])
def test_options_are_checked(l2):
    with pytest.raises(ValueError, match=r"greater than|at least 1"):
        run(FakeEncoders(), l2=l2)
