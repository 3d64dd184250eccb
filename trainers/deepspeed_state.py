"""A DeepSpeed engine's state by parameter, whole: any ZeRO stage and worker count goes on from it.

The library's own checkpoints hold each worker's partitions and are pickled. Here every worker
writes some of the whole tensors, as safetensors, so that nothing is unpickled and nothing has to be
converted. Of a parameter there are ``weight`` (in fp32), its optimizer's moments by their names
(``exp_avg``, ``exp_avg_sq``; ``momentum_buffer``), and ``average`` where weights are averaged.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
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
from torch import Tensor, nn

from pipelines.core import StorageError
from trainers.ema import Averages, shard_of
from trainers.loss_scale import LossScale
from trainers.optimizers import ADAM, prepare, updates
from trainers.swapped import by_group, in_memory, part, swaps, whole
from trainers.tensor_file import write_tensors

FILE = 512 << 20  # bytes from which on a file is written: so much is held beside the state itself
_STEP, _AVERAGED, _SCALE = "step", "averaged", "loss_scale"


@dataclass(frozen=True)
class Trained:
    """What has a state.

    Attributes:
        objective: What is trained.
        optimizer: The library's optimizer: that of ``build_optimizer``, or what wraps it.
        averages: Of its weights, if there are.
        scale: Of its loss, in fp16.
    """

    objective: nn.Module
    optimizer: Any
    averages: Averages | None = None
    scale: LossScale | None = None


def save_state(trained: Trained, rank: int, workers: int, folder: Path) -> None:
    """Write this worker's share of the state; every worker must call it.

    Args:
        trained: Whose state it is.
        rank: Of this worker.
        workers: How many there are.
        folder: Where to.
    """
    optimizer = trained.optimizer
    if not any(_base(optimizer).state.get(flat) for flat in _flats(optimizer)):
        _prepare(optimizer, torch.zeros(1))  # before the first update
    _link(optimizer)
    files = (folder / f"state-{rank:05d}{more}.safetensors" for more in _more())
    held: dict[str, Tensor] = {}
    for place, (name, value) in enumerate(_collect(trained)):
        if place % workers == rank:
            held[name] = value.detach().to("cpu", copy=True).contiguous()
        if sum(tensor.nbytes for tensor in held.values()) >= FILE:
            write_tensors(held, next(files))
            held = {}
    if held:
        write_tensors(held, next(files))


def _more() -> Iterator[str]:
    """What names a worker's files apart."""
    yield ""
    yield from (f"-{number}" for number in itertools.count(1))


def _collect(trained: Trained) -> Iterator[tuple[str, Tensor]]:
    """Name every tensor of the state, whole; gathering is collective, so nothing is left out."""
    objective, optimizer = trained.objective, trained.optimizer
    moments = _moments(optimizer)
    for group, named in by_group(objective, optimizer):
        with in_memory(optimizer, group, write=False):
            for name, parameter in named:
                if not parameter.requires_grad:
                    with GatheredParameters([parameter]):
                        yield f"weight/{name}", parameter.data
                    continue
                yield f"weight/{name}", _whole(parameter, optimizer, None, group)
                for moment in moments.get(id(parameter), ADAM):
                    yield f"{moment}/{name}", _whole(parameter, optimizer, moment, group)
    for name, buffer in _buffers(objective):
        yield f"buffer/{name}", buffer
    yield _STEP, updates(_base(optimizer))
    if trained.averages:
        for name in trained.averages.names:
            yield f"average/{name}", trained.averages.whole(name)
        yield _AVERAGED, torch.tensor([trained.averages.updates])
    if trained.scale:
        yield _SCALE, torch.tensor(trained.scale.state, dtype=torch.float64)


def load_state(trained: Trained, rank: int, folder: Path) -> None:
    """Read what any number of workers wrote under any stage; every worker must call it.

    Raises:
        StorageError: A tensor is missing, or not of its parameter's shape.
    """
    parts = Parts(folder)
    objective, optimizer = trained.objective, trained.optimizer
    moments = _moments(optimizer)
    _prepare(optimizer, parts.take(_STEP, (1,)))
    for group, named in by_group(objective, optimizer):
        with in_memory(optimizer, group, write=True):
            for name, parameter in named:
                shape = tuple(getattr(parameter, "ds_shape", parameter.shape))
                weight = parts.take(f"weight/{name}", shape)
                with GatheredParameters([parameter], modifier_rank=0):
                    if parameter.data.shape == weight.shape:  # under stage 3 on worker 0 alone
                        parameter.data.copy_(weight)
                if not parameter.requires_grad:
                    continue
                _put(parameter, optimizer, None, weight, rank, group)
                for moment in moments.get(id(parameter), ADAM):
                    value = parts.take(f"{moment}/{name}", shape)
                    _put(parameter, optimizer, moment, value, rank, group)
    for name, buffer in _buffers(objective):
        buffer.copy_(parts.take(f"buffer/{name}", tuple(buffer.shape)))
    _load_beside(trained, parts)


def _load_beside(trained: Trained, parts: Parts) -> None:
    """Read what belongs to no stage: averages, and the scale of an fp16 loss."""
    if trained.averages:
        trained.averages.updates = int(parts.take(_AVERAGED, (1,)))
        for name, parameter in trained.objective.named_parameters():
            if parameter.requires_grad:
                shape = tuple(getattr(parameter, "ds_shape", parameter.shape))
                trained.averages.put(name, parts.take(f"average/{name}", shape))
    if trained.scale and _SCALE in parts:  # an attempt in another precision has none
        scale, since = parts.take(_SCALE, (2,)).tolist()
        trained.scale.state = scale, since


class Parts:
    """The tensors of a saved state, wherever they are among its files."""

    def __init__(self, folder: Path):
        files = [safe_open(path, framework="pt") for path in sorted(folder.glob("*.safetensors"))]
        self._places: dict[str, Any] = {}
        for file in files:
            names: list[str] = file.keys()  # type: ignore[no-untyped-call]
            self._places |= dict.fromkeys(names, file)

    def __contains__(self, name: str) -> bool:
        return name in self._places

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


def _moments(optimizer: Any) -> dict[int, tuple[str, ...]]:
    """Names of the moments of what the optimizer steps, by identity."""
    return {
        id(parameter): tuple(group["moments"])
        for group in _base(optimizer).param_groups
        for parameter in group["params"]
    }


def _prepare(optimizer: Any, step: Tensor) -> None:
    """Make the moments that the first step would make, and set how many steps were made."""
    moments = _moments(optimizer)
    for group, flat in enumerate(_flats(optimizer)):
        with in_memory(optimizer, group, write=True):
            prepare(_base(optimizer), [(flat, moments.get(id(flat), ADAM))], step)
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


def _whole(
    parameter: nn.Parameter, optimizer: Any, moment: str | None, group: int | None
) -> Tensor:
    if swaps(optimizer, group):
        return whole(optimizer, parameter, moment)
    if not _partitioned(parameter):
        if moment is None:
            return parameter.data
        found = optimizer.state[parameter].get(moment)
        # Nothing is kept of a parameter that was never updated.
        return torch.zeros_like(parameter) if found is None else found
    gathered: Tensor = (
        safe_get_full_fp32_param(parameter)
        if moment is None
        else safe_get_full_optimizer_state(parameter, moment)
    )
    return gathered


def _put(
    parameter: Any,
    optimizer: Any,
    moment: str | None,
    value: Tensor,
    rank: int,
    group: int | None,
) -> None:
    value = value.to(parameter.device)
    if swaps(optimizer, group):
        mine = shard_of(value, parameter.partition_numel(), rank)
        part(optimizer, parameter, moment).copy_(mine)
    elif hasattr(parameter, "ds_id"):
        # The last partition is padded, which the library's own setter of whole values forgets.
        value = shard_of(value, parameter.partition_numel(), rank)
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
