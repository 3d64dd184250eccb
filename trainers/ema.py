"""Exponential moving averages of weights, whole or by this worker's shards."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn


class Averages:
    """Averages of an objective's trained parameters, in fp32 (Polyak and Juditsky, 1992).

    After update t the average is ``d * average + (1 - d) * weight`` with ``d = min(decay, (1 + t) /
    (10 + t))``, so that it does not hold on to initial weights. Under ZeRO 3 each worker averages
    its shards.

    Args:
        objective: Whose parameters are followed; the averages begin as they are.
        decay: Of the average, in [0, 1).
        device: Where workers talk to one another.
    """

    def __init__(self, objective: nn.Module, decay: float, device: torch.device):
        self._decay, self._device = decay, device
        # Any, since the library gives parameters more attributes under ZeRO 3.
        self._parameters: dict[str, Any] = {
            name: parameter
            for name, parameter in objective.named_parameters()
            if parameter.requires_grad
        }
        self._averages = {
            name: _shard(parameter).detach().float().clone()
            for name, parameter in self._parameters.items()
        }
        self._names = {id(parameter): name for name, parameter in self._parameters.items()}
        self.updates = 0

    @property
    def names(self) -> list[str]:
        """Of the parameters that are averaged."""
        return list(self._parameters)

    def name_of(self, parameter: Tensor) -> str:
        """The name under which a parameter is averaged; empty where it is not."""
        return self._names.get(id(parameter), "")

    @torch.no_grad()
    def update(self) -> None:
        """Follow the weights once they were updated."""
        self.updates += 1
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        shards = [_shard(parameter).detach().float() for parameter in self._parameters.values()]
        torch._foreach_lerp_(list(self._averages.values()), shards, 1 - decay)

    def whole(self, name: str) -> Tensor:
        """Gather the average of one parameter; every worker must call it."""
        average, parameter = self._averages[name], self._parameters[name]
        if not hasattr(parameter, "ds_tensor"):
            return average
        mine = average.to(self._device)
        parts = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, mine)
        whole = torch.cat(parts)[: parameter.ds_numel]
        return whole.view(parameter.ds_shape)

    def put(self, name: str, value: Tensor) -> None:
        """Set the average of one parameter.

        Args:
            name: Of the parameter.
            value: The whole average. [shape of the parameter]
        """
        average, parameter = self._averages[name], self._parameters[name]
        if hasattr(parameter, "ds_tensor"):
            value = shard_of(value, average.numel(), dist.get_rank())
        average.copy_(value)

    def weights(self, objective: nn.Module) -> dict[str, Tensor]:
        """Parameters and buffers of the objective, by name, with averages in their places.

        Args:
            objective: The one that is followed, its other parameters gathered.
        """
        state = objective.state_dict(keep_vars=True)
        return {
            name: self.whole(averaged) if (averaged := self.name_of(value)) else value.detach()
            for name, value in state.items()
        }


def shard_of(value: Tensor, size: int, rank: int) -> Tensor:
    """Cut out what a worker holds of a tensor under ZeRO 3; the last shard is padded."""
    return F.pad(value.flatten(), (0, size * (rank + 1))).narrow(0, size * rank, size)


def _shard(parameter: Tensor) -> Tensor:
    found: Tensor = getattr(parameter, "ds_tensor", parameter)
    return found
