from __future__ import annotations

import torch

from trainers.core.later import Later


def test_a_number_on_the_cpu_is_there_at_once():
    value = torch.full((1,), 0.25)
    assert Later(value).number() == 0.25
