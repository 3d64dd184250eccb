from __future__ import annotations

import pytest
import torch

from pipelines.core import ConfigError, DataError, validate
from trainers.core.evaluation import EvaluationData
from trainers.core.fakes import FakeLoad, fake_data
from trainers.labels import (
    LabelledConfig,
    distinct,
    encode,
    filled,
    hash_order,
    labelled_outcome,
    load_labelled,
)

CONFIG = LabelledConfig(name="x", data="test", reference="train")


def labelled_data(labels: list[str]) -> EvaluationData:
    plain = fake_data(len(labels))
    return EvaluationData(plain.keys, plain.images, {"json.group": labels})


def load_of(test: list[str], reference: list[str]) -> FakeLoad:
    return FakeLoad({"test": labelled_data(test), "train": labelled_data(reference)})


def test_classes_of_the_reference_come_first():
    labelled = load_labelled(load_of(["a", "c", "b", "z"], ["z", "b", "b"]), CONFIG)
    assert labelled.names == ("b", "z", "a", "c")
    assert labelled.known == 2
    assert labelled.test_labels.tolist() == [2, 3, 0, 1]
    assert labelled.reference_labels.tolist() == [1, 0, 0]


def test_unknown_labels_are_counted_and_chance_is_the_reference_majority():
    labelled = load_labelled(load_of(["a", "b", "z", "z"], ["z", "b", "b"]), CONFIG)
    right = torch.tensor([False, True, True, False])
    outcome = labelled_outcome(labelled, right, ())
    assert outcome.metrics == {
        "accuracy": 0.5,
        "balanced_accuracy": pytest.approx((0 + 1 + 0.5) / 3),
        "unknown_labels": 0.25,
    }
    assert outcome.chance == 0.25  # always 'b'
    assert outcome.examples == 4


def test_of_equally_frequent_classes_the_guesser_names_the_first():
    labelled = load_labelled(load_of(["b", "z", "z"], ["z", "b", "b", "z"]), CONFIG)
    assert labelled_outcome(labelled, torch.ones(3).bool(), ()).chance == pytest.approx(1 / 3)


def test_empty_data_is_refused():
    with pytest.raises(DataError, match=r"^url: no samples; .*inspect"):
        filled(fake_data(0), "caption", "txt", "url")


@pytest.mark.parametrize("texts", [{}, {"caption": ["a", "", "b"]}])
def test_missing_texts_are_refused_with_the_first_key(texts):
    plain = fake_data(3)
    data = EvaluationData(plain.keys, plain.images, texts)
    first = plain.keys[1] if texts else plain.keys[0]
    with pytest.raises(DataError, match=f"of 3 samples have no 'txt', the first is '{first}'"):
        filled(data, "caption", "txt", "url")


def test_one_class_is_refused():
    with pytest.raises(DataError, match=r"^url: 'json.group' is always 'a'; name a field"):
        distinct(["a", "a"], "json.group", "url")


def test_encode_numbers_by_place():
    assert encode(["b", "a", "b"], ("a", "b")).tolist() == [1, 0, 1]


def test_hash_order_depends_on_keys_alone():
    keys = [f"key {i}" for i in range(50)]
    order = hash_order(keys)
    assert sorted(order) == list(range(50))
    assert order != list(range(50))
    backwards = keys[::-1]
    assert [keys[i] for i in order] == [backwards[i] for i in hash_order(backwards)]


@pytest.mark.parametrize("name", ["", "a/b", "..", "../up", "-x", "a b"])
def test_a_name_is_safe_in_a_path(name):
    with pytest.raises(ConfigError, match="name"):
        validate(LabelledConfig, {"name": name, "data": "a", "reference": "b"}, "here")


def test_data_may_not_be_their_own_reference():
    with pytest.raises(ConfigError, match="find itself"):
        validate(LabelledConfig, {"name": "x", "data": "a", "reference": "a"}, "here")
