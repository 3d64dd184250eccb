from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.statistics import balanced_accuracy, bootstrap_interval, share

ANSWERS = st.lists(st.booleans(), min_size=1, max_size=300).map(torch.tensor)


def naive_interval(right: torch.Tensor, resamples: int) -> tuple[float, float]:
    random = torch.Generator().manual_seed(1)
    places = torch.randint(len(right), (resamples, len(right)), generator=random)
    low, high = right.double()[places].mean(1).quantile(torch.tensor([0.025, 0.975]).double())
    return float(low), float(high)


def test_interval_agrees_with_resampling_examples():
    right = torch.arange(150) % 3 == 0
    assert bootstrap_interval(right) == pytest.approx(naive_interval(right, 20_000), abs=0.011)


def test_interval_agrees_with_the_normal_approximation():
    right = torch.arange(40_000) < 8_000
    half = 1.96 * math.sqrt(0.2 * 0.8 / 40_000)
    assert bootstrap_interval(right) == pytest.approx((0.2 - half, 0.2 + half), abs=3e-4)


def test_interval_covers_the_truth_about_95_times_in_100():
    truth, draws = 0.3, np.random.default_rng(0).random((600, 200))
    intervals = [bootstrap_interval(torch.from_numpy(row < truth)) for row in draws]
    covered = sum(low <= truth <= high for low, high in intervals) / len(intervals)
    assert 0.91 <= covered <= 0.98


@settings(max_examples=60, deadline=None)
@given(ANSWERS)
def test_interval_holds_the_share_and_is_repeatable(right: torch.Tensor):
    low, high = bootstrap_interval(right)
    assert 0 <= low <= share(right) <= high <= 1
    assert bootstrap_interval(right.flip(0)) == (low, high)


@pytest.mark.parametrize("count", [1, 5, 1000])
def test_equal_answers_say_what_so_few_can(count: int):
    # The ends at which so many equal answers would be seen in one of 40 times.
    low, high = bootstrap_interval(torch.ones(count, dtype=torch.bool))
    assert high == 1.0
    assert low**count == pytest.approx(0.025)
    mirrored = bootstrap_interval(torch.zeros(count, dtype=torch.bool))
    assert mirrored == pytest.approx((0.0, 1 - low))


def test_more_examples_make_a_narrower_interval():
    widths = []
    for count in (20, 200, 2000):
        low, high = bootstrap_interval(torch.arange(count) % 2 == 0)
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)


def test_balanced_accuracy_of_known_answers():
    right = torch.tensor([True, True, True, False, False])
    labels = torch.tensor([0, 0, 0, 0, 3])  # 3 of 4, and 0 of 1; 1 and 2 do not occur
    assert balanced_accuracy(right, labels) == pytest.approx((3 / 4 + 0) / 2)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=1, max_size=60))
def test_balanced_accuracy_agrees_with_a_loop(answers: list[tuple[bool, int]]):
    by_class: dict[int, list[bool]] = {}
    for right, label in answers:
        by_class.setdefault(label, []).append(right)
    expected = sum(sum(found) / len(found) for found in by_class.values()) / len(by_class)
    rights, labels = (torch.tensor(column) for column in zip(*answers, strict=True))
    assert balanced_accuracy(rights, labels) == pytest.approx(expected)
