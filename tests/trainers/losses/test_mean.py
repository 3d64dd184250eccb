"""One worker here; two workers are in the tests of objectives, against one."""

from __future__ import annotations

import torch

from trainers.losses.mean import global_mean


def test_one_workers_mean_is_the_mean() -> None:
    total = torch.tensor(6.0, requires_grad=True)
    mean = global_mean(total, torch.tensor(4))
    mean.backward()
    assert mean.item() == 1.5
    assert total.grad == 0.25


def test_the_mean_of_nothing_is_zero() -> None:
    assert global_mean(torch.tensor(0.0), torch.tensor(0)).item() == 0.0
