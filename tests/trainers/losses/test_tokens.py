from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from trainers.losses.counts import counted
from trainers.losses.tokens import answers, token_loss


def test_the_loss_equals_its_formula() -> None:
    random = np.random.default_rng(0)
    logits, targets = random.normal(size=(7, 5)), random.integers(0, 5, 7)
    losses = []
    for row, target in zip(logits, targets, strict=True):
        total = sum(math.exp(value) for value in row)
        losses.append(-math.log(math.exp(row[target]) / total))
    loss = token_loss(torch.tensor(logits), torch.tensor(targets))
    assert loss.item() == pytest.approx(sum(losses) / 7, rel=1e-12)


def test_answers_are_counted_and_chance_is_the_most_frequent_token() -> None:
    logits = torch.eye(4)[[0, 1, 2, 3, 3]]
    found = answers(logits, torch.tensor([0, 3, 2, 3, 3]), torch.tensor([2, 0, 3, 0]))
    values = {name: value.item() for name, value in found.items()}
    assert values == pytest.approx({"accuracy": 0.8, "chance": 0.6, "answers": 1.25, "usable": 0.5})


def test_who_always_says_the_most_frequent_token_gets_what_chance_says() -> None:
    targets = torch.randint(0, 6, (50,), generator=torch.Generator().manual_seed(0))
    best = max(
        answers(torch.eye(6)[[token] * 50], targets, torch.tensor([50]))["accuracy"].item()
        for token in range(6)
    )
    chance = answers(torch.eye(6)[[0] * 50], targets, torch.tensor([50]))["chance"]
    assert chance.item() == pytest.approx(best)


def test_no_token_at_all_is_no_loss_and_no_answer() -> None:
    logits = torch.zeros(0, 4, requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    loss = token_loss(logits, none)
    loss.backward()
    assert loss.item() == 0.0
    assert {v.item() for v in answers(logits, none, torch.tensor([0, 0])).values()} == {0.0}


@pytest.mark.parametrize("values", [[], [3], [0, 4, 4, 1, 4]])
def test_classes_are_counted_like_bins(values: list[int]) -> None:
    numbers = torch.tensor(values, dtype=torch.long)
    assert torch.equal(counted(numbers, 5), torch.bincount(numbers, minlength=5))
