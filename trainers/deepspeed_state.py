"""A DeepSpeed engine's state by parameter, whole: any ZeRO stage and worker count goes on from it.

The library's own checkpoints hold each worker's partitions and are pickled. Here every worker
writes some of the whole tensors, as safetensors, so that nothing is unpickled and nothing has to be
converted. Of a parameter there are ``weight`` (in fp32), ``exp_avg`` and ``exp_avg_sq``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from deepspeed.runtime.zero import GatheredParameters
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
    safe_set_local_fp32_param,
    safe_set_local_optimizer_state,
)
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pipelines.core import StorageError

_MOMENTS = ("exp_avg", "exp_avg_sq")
_STEP = "step"


def save_state(objective: nn.Module, optimizer: Any, rank: int, workers: int, folder: Path) -> None:
    """Write this worker's share of the state; every worker must call it.

    Args:
        objective: What is trained.
        optimizer: The library's optimizer: AdamW, or what wraps it.
        rank: Of this worker.
        workers: How many there are.
        folder: Where to.
    """
    _link(optimizer)
    mine = {
        name: value.detach().to("cpu", copy=True).contiguous()
        for place, (name, value) in enumerate(_collect(objective, optimizer))
        if place % workers == rank
    }
    save_file(mine, folder / f"state-{rank:05d}.safetensors")


def _collect(objective: nn.Module, optimizer: Any) -> Iterator[tuple[str, Tensor]]:
    """Name every tensor of the state, whole; gathering is collective, so nothing is left out."""
    for name, parameter in objective.named_parameters():
        if not parameter.requires_grad:
            with GatheredParameters([parameter]):
                yield f"weight/{name}", parameter.data
            continue
        yield f"weight/{name}", _whole(parameter, optimizer, None)
        for moment in _MOMENTS:
            yield f"{moment}/{name}", _whole(parameter, optimizer, moment)
    for name, buffer in _buffers(objective):
        yield f"buffer/{name}", buffer
    yield _STEP, _base(optimizer).state[_flats(optimizer)[0]][_STEP].reshape(1)


def load_state(objective: nn.Module, optimizer: Any, rank: int, folder: Path) -> None:
    """Read what any number of workers wrote under any stage; every worker must call it.

    Raises:
        StorageError: A tensor is missing, or not of its parameter's shape.
    """
    parts = Parts(folder)
    _prepare(optimizer, parts.take(_STEP, (1,)))
    for name, parameter in objective.named_parameters():
        shape = tuple(getattr(parameter, "ds_shape", parameter.shape))
        weight = parts.take(f"weight/{name}", shape)
        with GatheredParameters([parameter], modifier_rank=0):
            if parameter.data.shape == weight.shape:  # under stage 3 on worker 0 alone
                parameter.data.copy_(weight)
        if not parameter.requires_grad:
            continue
        _put(parameter, optimizer, None, weight, rank)
        for moment in _MOMENTS:
            _put(parameter, optimizer, moment, parts.take(f"{moment}/{name}", shape), rank)
    for name, buffer in _buffers(objective):
        buffer.copy_(parts.take(f"buffer/{name}", tuple(buffer.shape)))


class Parts:
    """The tensors of a saved state, wherever they are among its files."""

    def __init__(self, folder: Path):
        files = [safe_open(path, framework="pt") for path in sorted(folder.glob("*.safetensors"))]
        self._places: dict[str, Any] = {}
        for file in files:
            names: list[str] = file.keys()  # type: ignore[no-untyped-call]
            self._places |= dict.fromkeys(names, file)

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Read one tensor.

        Raises:
            StorageError: It is missing, or has another shape.
        """
        if name not in self._places:
            raise StorageError(f"the checkpoint holds no '{name}'; it is of another model")
        tensor: Tensor = self._places[name].get_tensor(name)
        if tuple(tensor.shape) != shape:
            raise StorageError(
                f"'{name}' is {list(tensor.shape)} in the checkpoint and {list(shape)} in the model"
            )
        return tensor


def _buffers(objective: nn.Module) -> list[tuple[str, Tensor]]:
    kept = objective.state_dict().keys()
    return [(name, buffer) for name, buffer in objective.named_buffers() if name in kept]


def _base(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer that was handed to the library."""
    found: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
    return found


def _flats(optimizer: Any) -> list[Tensor]:
    """What the base optimizer steps: parameters, or this worker's part of each group of them."""
    for name in (
        "fp32_partitioned_groups_flat",  # stage 3
        "single_partition_of_fp32_groups",  # stages 1 and 2
        "fp32_groups_flat_partition",  # bf16 without ZeRO
    ):
        if hasattr(optimizer, name):
            return list(getattr(optimizer, name))
    return [p for group in optimizer.param_groups for p in group["params"]]


def _prepare(optimizer: Any, step: Tensor) -> None:
    """Make the moments that the first step would make, and set how many steps were made."""
    state = _base(optimizer).state
    for flat in _flats(optimizer):
        state[flat] = {name: torch.zeros_like(flat) for name in _MOMENTS} | {
            _STEP: step.reshape(()).clone()
        }
    _link(optimizer)


def _link(optimizer: Any) -> None:
    """Tell parameters of stages 1 and 2 where their moments are.

    The library does so after the first group's first step, when other groups have none yet.
    """
    if hasattr(optimizer, "_lazy_init_hp_params_optimizer_state"):
        optimizer._hp_optimizer_states_linked = False
        optimizer._lazy_init_hp_params_optimizer_state()


def _partitioned(parameter: Tensor) -> bool:
    return hasattr(parameter, "ds_id") or hasattr(parameter, "_hp_mapping")


def _whole(parameter: Tensor, optimizer: Any, moment: str | None) -> Tensor:
    if not _partitioned(parameter):
        return parameter.data if moment is None else optimizer.state[parameter][moment]
    found: Tensor = (
        safe_get_full_fp32_param(parameter)
        if moment is None
        else safe_get_full_optimizer_state(parameter, moment)
    )
    return found


def _put(parameter: Any, optimizer: Any, moment: str | None, value: Tensor, rank: int) -> None:
    value = value.to(parameter.device)
    if hasattr(parameter, "ds_id"):
        size = parameter.partition_numel()
        # The last partition is padded, which the library's own setter of whole values forgets.
        value = F.pad(value.flatten(), (0, size * (rank + 1))).narrow(0, size * rank, size)
        if moment is None:
            safe_set_local_fp32_param(parameter, value)
        else:
            safe_set_local_optimizer_state(parameter, value, moment)
    elif hasattr(parameter, "_hp_mapping"):
        if moment is None:
            safe_set_full_fp32_param(parameter, value)
        else:
            safe_set_full_optimizer_state(parameter, value, moment)
    elif moment is not None:
        optimizer.state[parameter][moment].copy_(value)
