"""A ZeRO optimizer's tensors that lie on a disk, a group of parameters at a time in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

Named = list[tuple[str, nn.Parameter]]


def keep_gradients(optimizer: Any) -> None:
    """Have gradients stay in memory, where the library holds all of a worker's part anyway.

    It would write them to files, too, and read those into the middle of a buffer. A disk that is
    read past the system's cache refuses most addresses there, and the library does not look: the
    update would be made with what the buffer held before.

    Args:
        optimizer: The library's, whose tensors lie on a disk.
    """
    swapper = optimizer.optimizer_swapper
    write = swapper.swap_out_gradients

    def keep(parameter: Tensor, gradient_offsets: list[int], gradient_tensors: list[Any]) -> None:
        held = [gradient.to("cpu") for gradient in gradient_tensors]  # a GPU has room for few
        for gradient in held:
            gradient.swappable = False  # what the library asks of a tensor
        write(parameter, gradient_offsets, held)

    swapper.swap_out_gradients = keep


def group_size(objective: nn.Module, workers: int, most: int) -> int:
    """Elements of the largest group of a worker's, which are in memory at once.

    Args:
        objective: Whose parameters.
        workers: Over which each is split.
        most: Elements from which on a group is complete.
    """
    parts = [-(-p.numel() // workers) for p in objective.parameters() if p.requires_grad]
    return min(sum(parts), most + max(parts, default=0))


def by_group(objective: nn.Module, optimizer: Any) -> list[tuple[int | None, Named]]:
    """Split parameters by the group in which they are read from the disk.

    The library's own functions read and write all of a group for each of its parameters.

    Args:
        objective: Whose parameters.
        optimizer: The library's.

    Returns:
        Groups' numbers with named parameters; None for those that are in memory. The same on
        every worker.
    """
    groups: dict[int | None, Named] = {}
    for name, parameter in objective.named_parameters():
        groups.setdefault(_group(optimizer, parameter), []).append((name, parameter))
    return list(groups.items())


def swaps(optimizer: Any, group: int | None) -> bool:
    """Whether a group of flat parameters lies on a disk."""
    ask = getattr(optimizer, "_swappable_optimizer_subgroup", None)
    return ask is not None and group is not None and bool(ask(group))


def _group(optimizer: Any, parameter: nn.Parameter) -> int | None:
    if not hasattr(optimizer, "_swappable_optimizer_subgroup") or not parameter.requires_grad:
        return None
    group = int(_place(optimizer, parameter)[0])
    return group if swaps(optimizer, group) else None


@contextlib.contextmanager
def in_memory(optimizer: Any, group: int | None, write: bool) -> Iterator[None]:
    """Hold a group's tensors in memory.

    Args:
        optimizer: The library's.
        group: Its number; nothing is done where it is not on a disk.
        write: Whether they are to be written back.
    """
    if not swaps(optimizer, group):
        yield
        return
    optimizer._optimizer_states_and_gradient_swap_in(group)
    yield
    if write:
        optimizer._optimizer_states_and_gradient_swap_out(group)
    else:
        optimizer._release_swap_buffers(group)


def part(optimizer: Any, parameter: nn.Parameter, moment: str | None) -> Tensor:
    """This worker's part of a parameter's weights or of a moment, a view; its group is in memory.

    Args:
        optimizer: The library's.
        parameter: Of a group on a disk.
        moment: Its name; None for the weights.
    """
    group, offset, count = _place(optimizer, parameter)
    flat = optimizer.fp32_partitioned_groups_flat[group]
    held = flat if moment is None else optimizer.optimizer.state[flat][moment]
    view: Tensor = held.detach().narrow(0, offset, count)
    return view


def whole(optimizer: Any, parameter: nn.Parameter, moment: str | None) -> Tensor:
    """The same of all workers together, in the parameter's shape; every worker must call it."""
    mine = part(optimizer, parameter, moment)
    gathered: Tensor = optimizer._fp32_state_allgather(parameter, mine.to(parameter.device))
    return gathered


def _place(optimizer: Any, parameter: nn.Parameter) -> tuple[int, int, int]:
    """A parameter's group, and where in its flat tensor its part begins and how long it is."""
    group, offset, count = optimizer.grad_position[optimizer.get_param_id(parameter)]
    return group, offset, count
