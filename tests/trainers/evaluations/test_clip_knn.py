from __future__ import annotations

import math
from collections import Counter, defaultdict

import pytest
import torch

from pipelines.core import ConfigError, DataError, validate
from trainers.core.fakes import FakeEncoders, FakeLoad
from trainers.evaluations.clip_knn import ClipKnn

LOAD = FakeLoad({})


def config(**changes: object) -> ClipKnn.Config:
    data = {"name": "x", "data": "test.tar", "reference": "train.tar", **changes}
    return validate(ClipKnn.Config, data, "here")


class Films(FakeEncoders):
    """Serves features and labels."""

    def __init__(self, test, train):
        super().__init__()
        self.sets = {"test.tar": test, "train.tar": train}
        self.asked = []

    def films(self, data, label, samples):
        self.asked.append((data.url, label, samples))
        return self.sets[data.url]


def drawn(count: int, labels: str, seed: int) -> tuple[torch.Tensor, list[str]]:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(count, 6, generator=random), [labels[i % len(labels)] for i in range(count)]


def test_the_model_is_asked_what_the_config_says() -> None:
    model = Films(drawn(4, "ab", 0), drawn(9, "ab", 1))
    ClipKnn(config(label="json.scene", samples=5, references=9)).run(model, LOAD)
    assert model.asked == [("train.tar", "json.scene", 9), ("test.tar", "json.scene", 5)]


def test_agrees_with_a_loop() -> None:
    (features, truths), (reference, labels) = drawn(60, "abc", 0), drawn(80, "abbc", 1)
    right = 0
    for feature, truth in zip(features.double(), truths, strict=True):
        cosines = [float(torch.cosine_similarity(feature, r, dim=0)) for r in reference.double()]
        votes: dict[str, float] = defaultdict(float)
        for i in sorted(range(80), key=lambda i: -cosines[i])[:7]:
            votes[labels[i]] += math.exp(cosines[i] / 0.3)
        right += max(votes, key=lambda label: votes[label]) == truth
    model = Films((features, truths), (reference, labels))
    outcome = ClipKnn(config(k=7, temperature=0.3)).run(model, LOAD)
    assert outcome.metrics["accuracy"] == pytest.approx(right / 60)
    assert outcome.chance == pytest.approx(Counter(truths)["b"] / 60)
    assert outcome.examples == 60


def test_labels_that_the_reference_lacks_are_wrong() -> None:
    features = torch.eye(3)
    model = Films((features, ["a", "b", "new"]), (features, ["a", "b", "b"]))
    outcome = ClipKnn(config(k=1)).run(model, LOAD)
    assert outcome.metrics["accuracy"] == pytest.approx(2 / 3)
    assert outcome.metrics["unknown_labels"] == pytest.approx(1 / 3)


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(ConfigError, match="every film would find itself"):
        config(reference="test.tar")
    with pytest.raises(DataError, match=r"no 'json.group'; name another field"):
        ClipKnn(config()).run(Films(drawn(4, "ab", 0), (torch.eye(2), ["a", ""])), LOAD)
    with pytest.raises(DataError, match="always 'a'; name a field that differs"):
        ClipKnn(config()).run(Films(drawn(4, "ab", 0), drawn(4, "a", 1)), LOAD)


def test_films_of_a_shard_that_is_learned_from_are_not_asked_about() -> None:
    model = Films(drawn(4, "ab", 0), drawn(9, "ab", 1))
    with pytest.raises(DataError, match=r"/train\.tar is in both \./train\.tar and train\.tar: "):
        ClipKnn(config(data="./train.tar")).run(model, LOAD)
    assert model.asked == []
