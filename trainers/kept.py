"""Bytes that a forward pass keeps for the backward pass: the activations of a device's memory."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pipelines.core.batch import Batch
from trainers.blocks import blocks, checkpoint_blocks, compile_by
from trainers.core.engine import EngineConfig
from trainers.core.objective import ComparingObjective, Objective

_FEW = 4  # samples of the smaller of two passes; their difference is that of the samples
# Cuts a compiled part in two as for a GPU, what to keep and what to compute again, and compiles
# neither: it needs no compiler.
_PARTITION = "aot_eager_decomp_partition"


def kept_per_sample(objective: Objective, batch: Batch, engine: EngineConfig) -> float:
    """Count the bytes that a further sample takes, on a copy of the objective.

    Passes on a CPU keep what those on a GPU keep, in the same format. Views count, weights and
    their copies in low precision do not. Of activations that are computed again block by block
    those of one block count.

    Args:
        objective: Before an engine has wrapped it; it is left as it was.
        batch: Views of a few samples on the CPU.
        engine: Precision, compiling, and what is computed again.

    Returns:
        Bytes.
    """
    once = _per_sample(objective, batch, engine)
    if not engine.checkpoint_activations:
        return once
    whole = _per_sample(
        objective, batch, engine.model_copy(update={"checkpoint_activations": False})
    )
    return once + max(0.0, whole - once) / len(list(blocks(objective)))


def whole_per_sample(objective: Objective, batch: Batch, engine: EngineConfig) -> float:
    """Count those of these bytes that a step in parts (``accumulate``) holds of all its samples.

    These are the views, and of an objective that compares samples what it compares and what
    comparing keeps.

    Args:
        objective: Before an engine has wrapped it; it is left as it was.
        batch: Views of a few samples on the CPU.
        engine: Its precision counts.

    Returns:
        Bytes.
    """
    trial = copy.deepcopy(objective).train()
    return _further(lambda some: _compared(trial, some, engine), batch)


def _per_sample(objective: Objective, batch: Batch, engine: EngineConfig) -> float:
    trial = copy.deepcopy(objective).train()
    if engine.checkpoint_activations:
        checkpoint_blocks(trial)
    if engine.compile:
        compile_by(trial, _PARTITION)
    return _further(lambda some: _kept(trial, some, engine), batch)


def _further(count: Callable[[Batch], int], batch: Batch) -> float:
    """Bytes that a further sample adds."""
    few = min(_FEW, len(batch) // 2)
    if not few:  # what does not grow with the batch counts with its one sample
        return float(count(batch))
    first, last = (count(batch.first(some)) for some in (few, 2 * few))
    return max(0, last - first) / few


def _kept(objective: Objective, batch: Batch, engine: EngineConfig) -> int:
    """Bytes that are held after a forward pass beside the objective's own."""
    return _held(objective, batch.views.values(), partial(objective, batch), engine)


def _compared(objective: Objective, batch: Batch, engine: EngineConfig) -> int:
    """Bytes of the views and, where samples are compared, of their rows and the comparison."""
    if not isinstance(objective, ComparingObjective):
        return _held(objective, batch.views.values(), lambda: None, engine)
    with _as_trained(engine):
        encoded = objective.rows(batch)
    rows = {name: v.detach().requires_grad_(v.requires_grad) for name, v in encoded.items()}
    held = [*batch.views.values(), *rows.values()]
    return _held(objective, held, partial(objective.compare, rows, batch), engine)


def _held(
    objective: nn.Module, first: Iterable[Tensor], work: Callable[[], object], engine: EngineConfig
) -> int:
    """Bytes of some tensors and of what work keeps for a way back, without an objective's own."""
    weights = itertools.chain(objective.parameters(), objective.buffers())
    own = {tensor.untyped_storage().data_ptr() for tensor in weights}
    held = {tensor.untyped_storage().data_ptr(): tensor for tensor in first}

    def keep(tensor: Tensor) -> Tensor:
        held.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with (
        _as_trained(engine),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        work()
    return sum(t.untyped_storage().nbytes() for place, t in held.items() if place not in own)


class _NormsAsOnGpus(TorchFunctionMode):
    """Normalises in single precision, which autocast does on a GPU and not on a CPU."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        if func in (F.layer_norm, F.group_norm):
            args = (args[0].float(), *args[1:])
        return func(*args, **(kwargs or {}))


def _eager(engine: EngineConfig) -> bool:
    """Whether autocast decides, op by op; what is compiled keeps what the compiler chooses."""
    return engine.precision != "fp32" and not engine.compile


@contextmanager
def _as_trained(engine: EngineConfig) -> Iterator[None]:
    """In the engine's precision, and without drawing on the process's random numbers."""
    with (
        warnings.catch_warnings(),
        torch.autocast("cpu", torch.bfloat16, enabled=engine.precision != "fp32"),
        torch.random.fork_rng([]),
        _NormsAsOnGpus() if _eager(engine) else nullcontext(),
    ):
        warnings.simplefilter("ignore")  # of the compiler, about tensors of its own
        yield
