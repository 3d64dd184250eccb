from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipelines.core import ConfigError
from trainers.core.engine import OptimizerConfig
from trainers.optimizers import (
    ADAM,
    MuonAndAdamW,
    build_optimizer,
    parameter_groups,
    prepare,
    set_rate,
    updates,
)

CPU = torch.device("cpu")


class Tower(nn.Module):
    """An embedding, a block with a matrix and a kernel, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 6)
        self.layers = nn.ModuleList(
            [nn.ModuleDict({"a": nn.Linear(6, 4), "k": nn.Conv1d(4, 2, 3)})]
        )
        self.head = nn.Linear(4, 2)


def tower(seed: int = 0) -> Tower:
    torch.manual_seed(seed)
    return Tower()


def names_of(module: nn.Module, group: dict[str, object]) -> set[str]:
    ids = {id(parameter): name for name, parameter in module.named_parameters()}
    return {ids[id(parameter)] for parameter in group["params"]}  # type: ignore[attr-defined]


def gradients(module: nn.Module, step: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(step)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=random)
    return {name: p.grad.double() for name, p in module.named_parameters()}  # type: ignore[union-attr]


def test_norms_biases_and_scales_do_not_decay() -> None:
    module = tower()
    decay, free = parameter_groups(module, OptimizerConfig(weight_decay=0.1))
    assert (decay["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert names_of(module, free) == {"layers.0.a.bias", "layers.0.k.bias", "head.bias"}
    assert len(decay["params"]) + len(free["params"]) == len(list(module.parameters()))
    assert {group["scale"] for group in (decay, free)} == {1.0}


def test_frozen_parameters_are_left_out_and_no_group_is_empty() -> None:
    module = tower()
    module.words.requires_grad_(False)
    module.layers.requires_grad_(False)
    module.head.weight.requires_grad_(False)
    (only,) = parameter_groups(module, OptimizerConfig())
    assert names_of(module, only) == {"head.bias"}
    assert only["weight_decay"] == 0.0


def test_patterns_choose_rates_and_decay_and_the_first_that_fits_counts() -> None:
    module = tower()
    config = OptimizerConfig(
        learning_rate=2.0, rates={"layers.*.weight": 0.5, "layers.*": 0.25}, no_decay=("words.*",)
    )
    groups = parameter_groups(module, config)
    found = {(group["scale"], group["weight_decay"]): names_of(module, group) for group in groups}
    assert found == {
        (0.5, 0.05): {"layers.0.a.weight", "layers.0.k.weight"},
        (0.25, 0.0): {"layers.0.a.bias", "layers.0.k.bias"},
        (1.0, 0.0): {"words.weight", "head.bias"},
        (1.0, 0.05): {"head.weight"},
    }
    optimizer = build_optimizer(module, config, CPU)
    assert {group["lr"] for group in optimizer.param_groups} == {2.0, 1.0, 0.5}
    set_rate(optimizer, 1.0)
    assert all(group["lr"] == group["scale"] for group in optimizer.param_groups)


@pytest.mark.parametrize("where", ["rates", "no_decay"])
def test_a_pattern_that_fits_nothing_is_refused(where: str) -> None:
    value = {"layer.*": 0.5} if where == "rates" else ("layer.*",)
    with pytest.raises(ConfigError, match=rf"optimizer.{where}: 'layer.\*' fits no parameter"):
        parameter_groups(tower(), OptimizerConfig.model_validate({where: value}))


def adamw(weight: Tensor, grads: list[Tensor], config: OptimizerConfig, decay: float) -> Tensor:
    """The update of arXiv:1711.05101, algorithm 2."""
    (b1, b2), m, v = config.betas, 0.0, 0.0
    for t, grad in enumerate(grads, 1):
        weight = weight * (1 - config.learning_rate * decay)
        m, v = b1 * m + (1 - b1) * grad, b2 * v + (1 - b2) * grad**2
        scaled = (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + config.eps)
        weight = weight - config.learning_rate * scaled
    return weight


def lamb(weight: Tensor, grads: list[Tensor], config: OptimizerConfig, decay: float) -> Tensor:
    """The update of arXiv:1904.00962, without bias correction, phi(x) = min(x, 10)."""
    (b1, b2), m, v = config.betas, 0.0, 0.0
    for grad in grads:
        m, v = b1 * m + (1 - b1) * grad, b2 * v + (1 - b2) * grad**2
        update = m / (v.sqrt() + config.eps) + decay * weight
        size, norm = weight.norm().clamp(max=10), update.norm()
        ratio = size / (norm + config.eps) if size > 0 and norm > 0 else 1.0
        weight = weight - config.learning_rate * ratio * update
    return weight


def muon(weight: Tensor, grads: list[Tensor], config: OptimizerConfig, decay: float) -> Tensor:
    """Jordan et al., 2024, with the factor of arXiv:2502.16982: 0.2 * sqrt(max(rows, columns))."""
    momentum = torch.zeros_like(weight)
    for grad in grads:
        momentum = config.momentum * momentum + (1 - config.momentum) * grad
        x = (1 - config.momentum) * grad + config.momentum * momentum
        x = x.T if x.shape[0] > x.shape[1] else x
        x = x / x.norm()
        for _ in range(5):
            gram = x @ x.T
            x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
        x = x.T if grad.shape[0] > grad.shape[1] else x
        weight = weight * (1 - config.learning_rate * decay)
        weight = weight - config.learning_rate * 0.2 * max(grad.shape) ** 0.5 * x
    return weight


@pytest.mark.parametrize(
    ("kind", "rule", "tolerance"),
    [("adamw", adamw, 1e-5), ("lamb", lamb, 1e-5), ("muon", muon, 0.03)],
)
def test_updates_are_those_of_the_papers(kind: str, rule, tolerance: float) -> None:
    config = OptimizerConfig.model_validate({"kind": kind, "learning_rate": 0.01, "eps": 1e-6})
    module = tower()
    before = {name: p.detach().double() for name, p in module.named_parameters()}
    optimizer = build_optimizer(module, config, CPU)
    seen = []
    for step in range(4):
        seen.append(gradients(module, step))
        optimizer.step()
    for name, parameter in module.named_parameters():
        # Muon takes the block's matrix alone.
        own = adamw if kind == "muon" and name != "layers.0.a.weight" else rule
        decay = config.weight_decay if parameter.dim() > 1 else 0.0
        expected = own(before[name], [grads[name] for grads in seen], config, decay)
        moved = (expected - before[name]).abs().max().item()
        bound = (1e-5 if own is adamw else tolerance) * max(moved, 1.0 if own is not muon else 0)
        np.testing.assert_allclose(parameter.detach().numpy(), expected.numpy(), rtol=0, atol=bound)


def test_muon_without_a_matrix_in_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match="no tower of this objective has linear layers in blocks"):
        build_optimizer(nn.Linear(2, 2), OptimizerConfig(kind="muon"), CPU)


def test_muon_takes_the_one_matrix_of_queries_keys_and_values() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16)
    groups = parameter_groups(
        nn.ModuleDict({"layers": nn.ModuleList([layer])}), OptimizerConfig(kind="muon")
    )
    taken = {id(p) for group in groups if group["moments"] != ADAM for p in group["params"]}
    names = {name for name, p in layer.named_parameters() if id(p) in taken}
    assert names == {
        *("self_attn.in_proj_weight", "self_attn.out_proj.weight"),
        *("linear1.weight", "linear2.weight"),
    }


def test_two_optimizers_in_one_take_no_closure() -> None:
    optimizer = build_optimizer(tower(), OptimizerConfig(kind="muon"), CPU)
    assert isinstance(optimizer, MuonAndAdamW)
    with pytest.raises(ValueError, match="closure"):
        optimizer.step(lambda: 0.0)


@pytest.mark.parametrize("kind", ["adamw", "lamb", "muon"])
def test_prepared_moments_go_on_as_those_that_were_made(kind: str) -> None:
    config = OptimizerConfig.model_validate({"kind": kind})
    module, other = tower(), tower(1)
    first = build_optimizer(module, config, CPU)
    assert updates(first).tolist() == [0.0]
    for step in range(3):
        gradients(module, step)
        first.step()
    assert updates(first).tolist() == [3.0]
    second = build_optimizer(other, config, CPU)
    tensors = [(p, g["moments"]) for g in second.param_groups for p in g["params"]]
    prepare(second, tensors, updates(first))
    other.load_state_dict(module.state_dict())
    for old, new in zip(module.parameters(), other.parameters(), strict=True):
        for name in ("exp_avg", "exp_avg_sq", "momentum_buffer"):
            assert (name in first.state[old]) == (name in second.state[new])
            if name in first.state[old]:
                second.state[new][name].copy_(first.state[old][name])
    assert {name for _, names in tensors for name in names} >= set(ADAM)
    for each, optimizer in ((module, first), (other, second)):
        gradients(each, 9)
        optimizer.step()
    assert updates(second).tolist() == [4.0]
    for old, new in zip(module.parameters(), other.parameters(), strict=True):
        assert torch.equal(old, new)
