from __future__ import annotations

import torch

from trainers.loss_scale import LossScale


def test_an_overflow_halves_it_but_not_below_1() -> None:
    scale = LossScale()
    assert scale.scale_loss(torch.tensor(2.0)).item() == 2.0**17
    for _ in range(16):
        scale.settle(overflow=True)
    assert scale.cur_scale == 1.0
    scale.settle(overflow=True)
    assert scale.cur_scale == 1.0


def test_long_without_an_overflow_it_doubles() -> None:
    scale = LossScale()
    for _ in range(1999):
        scale.settle(overflow=False)
    scale.settle(overflow=True)
    for _ in range(1999):
        scale.settle(overflow=False)
    assert scale.cur_scale == 2.0**15
    scale.settle(overflow=False)
    assert scale.cur_scale == 2.0**16


def test_the_library_cannot_change_it_in_the_midst_of_a_step() -> None:
    scale = LossScale()
    scale.update_scale(True)
    assert scale.cur_scale == 2.0**16


def test_its_state_restores_it() -> None:
    scale, other = LossScale(), LossScale()
    scale.settle(overflow=True)
    for _ in range(1500):
        scale.settle(overflow=False)
    other.state = scale.state
    for _ in range(500):
        other.settle(overflow=False)
    assert other.cur_scale == 2.0**16
