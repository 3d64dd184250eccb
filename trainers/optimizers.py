"""Optimizers by configuration: which parameters are updated how, by libraries' classes."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.core import ConfigError, nearest
from trainers.blocks import blocks
from trainers.core.engine import OptimizerConfig

ADAM = ("exp_avg", "exp_avg_sq")
_MUON = ("momentum_buffer",)


def build_optimizer(
    objective: nn.Module, config: OptimizerConfig, device: torch.device
) -> torch.optim.Optimizer:
    """Build what updates the objective's parameters.

    Its groups carry ``scale``, the factor of their learning rate, and ``moments``, the
    names of the tensors that it keeps of a parameter.

    Args:
        objective: What is trained.
        config: Kind, rates and decay.
        device: Where updates are made.

    Raises:
        ConfigError: A pattern fits no parameter, or there is no matrix for Muon.
    """
    groups = parameter_groups(objective, config)
    if config.kind == "lamb":
        # Imported here: it imports all that its optional parts find installed.
        from pytorch_optimizer import Lamb

        lamb: torch.optim.Optimizer = Lamb(
            [{**group, "step": 0} for group in groups],
            lr=config.learning_rate,
            betas=config.betas,
            eps=config.eps,
            weight_decouple=False,  # decay counts in the trust ratio, as in the paper
            adam_debias=True,  # the library would divide the rate by 1 - beta ** step otherwise
        )
        return lamb
    if config.kind == "muon":
        return MuonAndAdamW(groups, config, device)
    return _adamw(groups, config, device)


def set_rate(optimizer: Any, rate: float) -> None:
    """Set the learning rate of each group: ``rate`` by the group's factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


def parameter_groups(objective: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Split trainable parameters by decay, factor of the learning rate, and rule of update.

    Matrices decay; vectors (norms, biases, scales) and what ``no_decay`` names do not.

    Raises:
        ConfigError: A pattern fits no parameter, or there is no matrix for Muon.
    """
    named = {name: p for name, p in objective.named_parameters() if p.requires_grad}
    _check_patterns("rates", config.rates, named)
    _check_patterns("no_decay", config.no_decay, named)
    matrices = _matrices(objective) if config.kind == "muon" else set()
    groups: dict[tuple[bool, bool, float], list[Tensor]] = {}
    for name, parameter in named.items():
        vector = parameter.dim() <= 1 or any(fnmatchcase(name, p) for p in config.no_decay)
        factors = (factor for p, factor in config.rates.items() if fnmatchcase(name, p))
        key = (id(parameter) not in matrices, vector, next(factors, 1.0))
        groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": groups[plain, vector, scale],
            "weight_decay": 0.0 if vector else config.weight_decay,
            "scale": scale,
            "lr": config.learning_rate * scale,
            "moments": ADAM if plain else _MUON,
        }
        for plain, vector, scale in sorted(groups)
    ]


def _check_patterns(where: str, patterns: Any, named: dict[str, Any]) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in named):
            close = nearest(pattern, list(named)[:5])
            raise ConfigError(f"optimizer.{where}: '{pattern}' fits no parameter; {close}, ...")


def _matrices(objective: nn.Module) -> set[int]:
    """Weights of linear layers inside blocks, by identity."""
    layers = [layer for block in blocks(objective) for layer in block.modules()]
    linear = [layer.weight for layer in layers if isinstance(layer, nn.Linear)]
    # One matrix makes queries, keys and values, and is no layer of its own.
    joint = [layer.in_proj_weight for layer in layers if isinstance(layer, nn.MultiheadAttention)]
    found = {id(p) for p in [*linear, *joint] if p is not None and p.requires_grad}
    if not found:
        raise ConfigError(
            "optimizer.kind muon: no tower of this objective has linear layers in blocks; use adamw"
        )
    return found


def _adamw(
    groups: list[dict[str, Any]], config: OptimizerConfig, device: torch.device
) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        groups,
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.eps,
        # One pass over memory instead of ten; see ARCHITECTURE for what it gains on a CPU.
        fused=device.type in ("cpu", "cuda"),
    )


class MuonAndAdamW(torch.optim.Optimizer):
    """Muon for groups whose moment is a momentum buffer, AdamW for the others.

    Args:
        groups: From ``parameter_groups``.
        config: Rates, betas and momentum.
        device: Where updates are made.
    """

    def __init__(self, groups: list[dict[str, Any]], config: OptimizerConfig, device: torch.device):
        muon = torch.optim.Muon(
            [group for group in groups if group["moments"] == _MUON],
            momentum=config.momentum,
            adjust_lr_fn="match_rms_adamw",
        )
        adamw = _adamw([group for group in groups if group["moments"] == ADAM], config, device)
        self._parts: tuple[tuple[Any, tuple[str, ...]], ...] = ((muon, _MUON), (adamw, ADAM))
        super().__init__([*muon.param_groups, *adamw.param_groups], {})

    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update all groups."""
        if closure is not None:
            raise ValueError("a closure cannot be run once for two optimizers")
        for part, moments in self._parts:
            part.param_groups = [g for g in self.param_groups if tuple(g["moments"]) == moments]
            part.state = self.state
            part.step()


def updates(optimizer: torch.optim.Optimizer) -> Tensor:
    """How many updates the optimizer made; [1]."""
    if "step" in optimizer.param_groups[0]:
        return torch.tensor([float(optimizer.param_groups[0]["step"])])
    steps = (state["step"] for state in optimizer.state.values() if "step" in state)
    return torch.as_tensor(next(steps, 0.0)).reshape(1).float().cpu()


def prepare(
    optimizer: torch.optim.Optimizer, tensors: list[tuple[Tensor, Any]], step: Tensor
) -> None:
    """Make the moments that a first step would make, and set how many updates were made.

    Args:
        optimizer: From ``build_optimizer``.
        tensors: What it updates, each with the names of its moments.
        step: Updates made. [1]
    """
    for tensor, moments in tensors:
        kept = optimizer.state.get(tensor, {})
        # In place where there are some: those on a disk are known by their tensors.
        state: dict[str, Any] = {
            name: kept[name].zero_() if name in kept else torch.zeros_like(tensor)
            for name in moments
        }
        if moments == ADAM:  # LAMB counts by group, and does not look
            state["step"] = step.reshape(()).to(tensor.device, copy=True)  # as a fused one wants it
        optimizer.state[tensor] = state
    for group in optimizer.param_groups:
        if "step" in group:
            group["step"] = int(step)
