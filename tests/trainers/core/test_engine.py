from __future__ import annotations

import torch

from trainers.core.engine import parameter_groups
from trainers.core.objective import Surroundings
from trainers.objectives.clip import Clip


def test_norms_biases_and_scales_do_not_decay() -> None:
    objective = Clip(Clip.Config(), Surroundings(size=16, vocabulary=280, length=8))
    decay, free = parameter_groups(objective, 0.1)
    assert decay["weight_decay"] == 0.1
    assert free["weight_decay"] == 0.0
    assert all(p.dim() > 1 for p in decay["params"])  # type: ignore[attr-defined]
    names = {id(p): name for name, p in objective.named_parameters()}
    unfree = {names[id(p)] for p in free["params"]}  # type: ignore[attr-defined]
    assert "log_scale" in unfree
    assert {"image.0._model.embeddings.layernorm.weight", "text.0._curved.1.bias"} <= unfree
    count = len(decay["params"]) + len(free["params"])  # type: ignore[arg-type]
    assert count == len(names)


def test_frozen_parameters_are_left_out() -> None:
    objective = Clip(Clip.Config(), Surroundings(size=16, vocabulary=280, length=8))
    for parameter in objective.text.parameters():
        parameter.requires_grad_(False)
    groups = parameter_groups(objective, 0.1)
    frozen = {id(p) for p in objective.text.parameters()}
    assert not [p for g in groups for p in g["params"] if id(p) in frozen]  # type: ignore[attr-defined]


def test_no_empty_group() -> None:
    class Vector(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.only = torch.nn.Parameter(torch.ones(3))

    groups = parameter_groups(Vector(), 0.1)  # type: ignore[arg-type]
    assert [g["weight_decay"] for g in groups] == [0.0]
