from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core import DataError
from trainers.core.fakes import FakeLoad, fake_data
from trainers.few_labels import Labels, draw, few

CLASSES = st.lists(st.sampled_from("abcd"), min_size=1, max_size=80)
FRACTIONS = st.floats(0.001, 1)
SEEDS = st.integers(0, 2**31)


def keys_of(labels: list[str]) -> list[str]:
    return [f"k{place}" for place in range(len(labels))]


def drawn(labels: list[str], seed: int, **how: object) -> list[int]:
    return draw(keys_of(labels), labels, Labels.model_validate(how), seed)


@settings(max_examples=60, deadline=None)
@given(CLASSES, FRACTIONS, SEEDS)
def test_a_fraction_is_of_every_class_and_one_at_least(labels, fraction, seed):
    places = drawn(labels, seed, fraction=fraction)
    assert places == sorted(set(places))
    have, all_of = Counter(labels[place] for place in places), Counter(labels)
    for name, size in all_of.items():
        assert 1 <= have[name] <= size
        assert have[name] == 1 or abs(have[name] - fraction * size) <= 0.5


@settings(max_examples=60, deadline=None)
@given(CLASSES, st.integers(1, 30), SEEDS)
def test_so_many_of_each_class_or_all_it_has(labels, count, seed):
    have = Counter(labels[place] for place in drawn(labels, seed, per_class=count))
    assert have == {name: min(count, size) for name, size in Counter(labels).items()}


@settings(max_examples=60, deadline=None)
@given(CLASSES, FRACTIONS, FRACTIONS, SEEDS)
def test_fewer_labels_are_some_of_more(labels, one, other, seed):
    low, high = sorted((one, other))
    assert set(drawn(labels, seed, fraction=low)) <= set(drawn(labels, seed, fraction=high))
    assert drawn(labels, seed, fraction=1.0) == list(range(len(labels)))


@settings(max_examples=30, deadline=None)
@given(CLASSES, SEEDS, st.randoms(use_true_random=False))
def test_the_order_of_storage_changes_nothing(labels, seed, random):
    keys, order = keys_of(labels), list(range(len(labels)))
    random.shuffle(order)
    how = Labels(fraction=0.3)
    one = {keys[place] for place in draw(keys, labels, how, seed)}
    moved = [keys[i] for i in order]
    other = {moved[p] for p in draw(moved, [labels[i] for i in order], how, seed)}
    assert one == other


def test_every_example_is_drawn_about_equally_often():
    labels = ["a"] * 10
    counts = Counter(p for seed in range(2000) for p in drawn(labels, seed, per_class=3))
    # 600 each is expected, with a deviation of 20.
    assert all(500 < counts[place] < 700 for place in range(10))


@pytest.mark.parametrize("how", [{}, {"fraction": 0.1, "per_class": 3}])
def test_one_of_both_is_given(how):
    with pytest.raises(ValueError, match="either fraction or per_class"):
        Labels.model_validate(how)


@pytest.mark.parametrize("how", [{"fraction": 0}, {"fraction": 1.1}, {"per_class": 0}])
def test_amounts_are_checked(how):
    with pytest.raises(ValueError, match="than"):
        Labels.model_validate(how)


def test_one_data_set_is_cut_and_others_are_not():
    train, test = fake_data(60, groups=3, seed=1), fake_data(20, groups=3)
    load = few(FakeLoad({"x": train, "y": test}), "x", "json.group", Labels(per_class=2), 0)
    chosen = load("x", {"label": "json.group"})
    assert Counter(chosen.texts["label"]) == {"group 0": 2, "group 1": 2, "group 2": 2}
    for key, image, label in zip(chosen.keys, chosen.images, chosen.texts["label"], strict=True):
        place = train.keys.index(key)
        np.testing.assert_array_equal(image, train.images[place])
        assert label == train.texts["json.group"][place]
    assert len(load("y", {"label": "json.group"})) == 20


@pytest.mark.parametrize("count", [5, 12])
def test_others_take_the_place_of_unreadable_ones(count):
    data = fake_data(60, groups=3)
    before = set(
        few(FakeLoad({"x": data}), "x", "json.group", Labels(per_class=4), 0)("x", {}).keys
    )
    broken = sorted(before)[:count]
    load = few(FakeLoad({"x": data}, broken), "x", "json.group", Labels(per_class=4), 0)
    chosen = load("x", {"label": "json.group"})
    assert Counter(chosen.texts["label"]) == {f"group {number}": 4 for number in range(3)}
    assert before.difference(broken) < set(chosen.keys)
    images = dict(zip(data.keys, data.images, strict=True))
    for key, image in zip(chosen.keys, chosen.images, strict=True):
        np.testing.assert_array_equal(image, images[key])
    assert not set(chosen.keys).intersection(broken)


def test_data_of_which_no_picture_is_readable_is_refused():
    data = fake_data(12, groups=3)
    load = FakeLoad({"x": data}, data.keys)
    with pytest.raises(DataError, match="x: no sample is readable"):
        few(load, "x", "json.group", Labels(per_class=2), 0)


def test_nothing_is_decoded_of_those_that_are_not_chosen():
    data = fake_data(60, groups=3)
    load, asked = FakeLoad({"x": data}), []
    some = load.some
    load.some = lambda url, fields, numbers: asked.extend(numbers) or some(url, fields, numbers)
    few(load, "x", "json.group", Labels(per_class=2), 0)
    assert len(asked) == len(set(asked)) == 6


def test_a_label_that_is_missing_is_named():
    data = fake_data(4)
    data.texts["json.group"][2] = ""
    with pytest.raises(DataError, match=r"1 of 4 samples have no 'json.group', the first is '0-0"):
        few(FakeLoad({"x": data}), "x", "json.group", Labels(fraction=1), 0)
