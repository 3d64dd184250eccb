from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainers.conftest import AROUND, SMALL_TOWERS, random_batch
from trainers.collapse import (
    CollapseConfig,
    Collapsed,
    FeatureWatch,
    alignment,
    effective_rank,
    fault,
    spread,
    uniformity,
)
from trainers.core.objective import Objective
from trainers.objectives import OBJECTIVES


def features(rows: int = 40, width: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)).double()


def test_each_measure_equals_a_plain_one_in_numpy() -> None:
    a, b = features(), features(seed=1)
    unit = a.numpy() / np.linalg.norm(a.numpy(), axis=1, keepdims=True)
    other = b.numpy() / np.linalg.norm(b.numpy(), axis=1, keepdims=True)
    assert spread(a).item() == pytest.approx(unit.std(0).mean() * math.sqrt(8))
    values = np.linalg.svd(unit - unit.mean(0))[1]
    p = values / values.sum()
    assert effective_rank(a).item() == pytest.approx(math.exp(-(p * np.log(p)).sum()))
    assert alignment(a, b).item() == pytest.approx(((unit - other) ** 2).sum(1).mean())
    pairs = [math.exp(-2 * ((unit[i] - unit[j]) ** 2).sum()) for i in range(40) for j in range(i)]
    assert uniformity(a).item() == pytest.approx(math.log(np.mean(pairs)))


def test_features_that_are_one_point_or_on_a_line_are_told_from_others() -> None:
    point = torch.ones(40, 8).double() + 1e-9 * features()
    line = torch.cat([features(40, 1), torch.ones(40, 7).double()], 1)
    assert spread(point) < 1e-6
    assert effective_rank(point) == 0
    assert effective_rank(line) < 2.5 < 5 < effective_rank(features())
    assert effective_rank(features(5)) <= 4
    assert 0.9 < spread(features(2000)) < 1.1


@pytest.mark.parametrize(
    ("spread", "rank", "rows", "expected"),
    [
        (0.5, 20.0, 256, ""),
        (0.001, 20.0, 256, "one point"),
        (0.5, 1.5, 256, "in 1.5 dimensions"),
        (0.5, 1.0, 2, ""),  # two samples span no more
        (0.001, 1.0, 2, "one point"),
        (0.5, 1.9, 5, "in 1.9 dimensions"),
        (0.5, 1.4, 4, "in 1.4 dimensions"),
        (0.5, 1.6, 4, ""),
    ],
)
def test_verdicts(spread: float, rank: float, rows: int, expected: str) -> None:
    found = fault({"feature_spread": spread, "feature_rank": rank}, CollapseConfig(), rows)
    assert expected in found
    assert bool(found) == bool(expected)


def small(kind: str) -> Objective:
    fields = OBJECTIVES.get(kind).config.model_fields
    options = {name: tower for name, tower in SMALL_TOWERS.items() if name in fields}
    torch.manual_seed(0)
    objective: Objective = OBJECTIVES.build(OBJECTIVES.parse({"kind": kind, **options}), AROUND)
    return objective


@pytest.mark.parametrize("kind", OBJECTIVES.names())
def test_every_objective_is_watched_and_left_as_it_was(kind: str) -> None:
    objective = small(kind)
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    batch = random_batch(objective, 8, AROUND.size)
    found = FeatureWatch(objective, CollapseConfig(every=2))(4, batch)
    assert {"feature_spread", "feature_rank", "uniformity", "collapsed"} <= found.keys()
    assert all(math.isfinite(value) for value in found.values())
    assert objective.training
    assert all(torch.equal(before[n], v) for n, v in objective.state_dict().items())
    assert all(p.grad is None for p in objective.parameters())


def test_it_looks_only_when_it_is_time() -> None:
    objective = small("simclr")
    batch = random_batch(objective, 8, AROUND.size)
    assert FeatureWatch(objective, CollapseConfig(every=3))(4, batch) == {}
    assert FeatureWatch(objective, CollapseConfig(every=0))(4, batch) == {}
    assert "alignment" in FeatureWatch(objective, CollapseConfig(every=3))(6, batch)


def test_a_collapsed_run_is_told_or_stopped() -> None:
    objective = small("simclr")
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.zero_()
        for name, parameter in objective.encoders()["image"].named_parameters():
            parameter.fill_(1.0 if name.endswith("bias") else 0.0)
    batch = random_batch(objective, 8, AROUND.size)
    found = FeatureWatch(objective, CollapseConfig(every=1))(1, batch)
    assert found["collapsed"] == 1.0
    with pytest.raises(Collapsed, match=r"one point .* at step 1; lower optimizer.learning_rate"):
        FeatureWatch(objective, CollapseConfig(every=1, stop=True))(1, batch)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_of_a_model_that_diverged_nothing_is_told(value: float) -> None:
    # What ends the attempt is the loss; an error here would be taken for a fault of the worker.
    objective = small("simclr")
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.fill_(value)
    batch = random_batch(objective, 8, AROUND.size)
    assert FeatureWatch(objective, CollapseConfig(every=1, stop=True))(1, batch) == {}
    assert objective.training
