from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from trainers.losses.classes import class_loss

LOGITS, LABELS = np.random.default_rng(0).normal(size=(6, 3, 5)), np.arange(18).reshape(6, 3) % 5
USABLE = [True, False, True, True, False, True]


def test_the_loss_equals_its_formula_over_usable_samples() -> None:
    losses, rights = [], []
    for sample in np.flatnonzero(USABLE):
        for answer in range(3):
            row, label = LOGITS[sample, answer], LABELS[sample, answer]
            losses.append(math.log(np.exp(row).sum()) - row[label])
        rights.append(LOGITS[sample, 0].argmax() == LABELS[sample, 0])
    found = class_loss(torch.tensor(LOGITS), torch.tensor(LABELS), torch.tensor(USABLE))
    assert found.loss.item() == pytest.approx(np.mean(losses), rel=1e-12)
    values = {name: value.item() for name, value in found.metrics.items()}
    assert values == pytest.approx({"accuracy": np.mean(rights), "usable": 4 / 6})


def test_where_all_are_usable_it_is_the_mean() -> None:
    logits, labels = torch.tensor(LOGITS)[:, 0], torch.tensor(LABELS)[:, 0]
    found = class_loss(logits, labels, torch.ones(6, dtype=torch.bool))
    torch.testing.assert_close(found.loss, F.cross_entropy(logits, labels))
    assert found.metrics["usable"].item() == 1


def test_without_a_usable_sample_there_is_no_loss_and_no_gradient() -> None:
    logits = torch.tensor(LOGITS[:, 0], requires_grad=True)
    found = class_loss(logits, torch.tensor(LABELS[:, 0]), torch.zeros(6, dtype=torch.bool))
    found.loss.backward()
    assert found.loss.item() == 0
    assert {value.item() for value in found.metrics.values()} == {0.0}
    assert not logits.grad.any()


def test_half_precision_is_widened() -> None:
    logits = torch.tensor(LOGITS[:, 0]).bfloat16()
    found = class_loss(logits, torch.tensor(LABELS[:, 0]), torch.tensor(USABLE))
    assert found.loss.dtype == torch.float32
