from __future__ import annotations

from pathlib import Path

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
    listed,
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


def test_a_list_is_no_label_and_refused_when_it_is_read():
    data = {"name": "x", "data": "a", "reference": "b", "label": "json.a[]"}
    with pytest.raises(ConfigError, match=r"^here: label: 'json.a\[\]' is a list, and ") as caught:
        validate(LabelledConfig, data, "here")
    assert "\n" not in str(caught.value)


def test_texts_of_a_sample_are_its_list_or_one():
    plain = fake_data(2)
    several = EvaluationData(plain.keys, plain.images, {}, lists={"caption": [["a", "b"], ["c"]]})
    assert listed(several, "caption", "txt[]", "url") == [["a", "b"], ["c"]]
    assert listed(plain, "txt", "txt", "url") == [("concept 0",), ("concept 1",)]
    lacking = EvaluationData(plain.keys, plain.images, {}, lists={"caption": [["a"], []]})
    with pytest.raises(DataError, match=f"1 of 2 samples have no .* is '{plain.keys[1]}'"):
        listed(lacking, "caption", "txt[]", "url")
    with pytest.raises(DataError, match="no samples"):
        listed(EvaluationData([], plain.images, {}, lists={"caption": []}), "caption", "t[]", "url")


def test_a_reference_under_another_name_of_the_data_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("test", "train"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match="is in both"):
        load_labelled(load_of(["a"], ["a", "b"]), CONFIG.model_copy(update={"data": "./train"}))
