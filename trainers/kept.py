"""Bytes that a forward pass keeps for the backward pass: the activations of a device's memory."""

from __future__ import annotations

import copy
import itertools
import warnings

import torch
from torch import Tensor, nn

from pipelines.core.batch import Batch
from trainers.blocks import blocks, checkpoint_blocks, compile_by
from trainers.core.engine import EngineConfig
from trainers.core.objective import Objective

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


def _per_sample(objective: Objective, batch: Batch, engine: EngineConfig) -> float:
    trial = copy.deepcopy(objective).train()
    if engine.checkpoint_activations:
        checkpoint_blocks(trial)
    if engine.compile:
        compile_by(trial, _PARTITION)
    few = min(_FEW, len(batch) // 2)
    if not few:  # what does not grow with the batch counts with its one sample
        return float(_kept(trial, batch, engine))
    first, last = (_kept(trial, batch.first(count), engine) for count in (few, 2 * few))
    return max(0, last - first) / few


def _kept(objective: nn.Module, batch: Batch, engine: EngineConfig) -> int:
    """Bytes that are held after a forward pass beside the objective's own."""
    weights = itertools.chain(objective.parameters(), objective.buffers())
    own = {tensor.untyped_storage().data_ptr() for tensor in weights}
    held = {view.untyped_storage().data_ptr(): view for view in batch.views.values()}

    def keep(tensor: Tensor) -> Tensor:
        held.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with (
        warnings.catch_warnings(),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=engine.precision != "fp32"),
        torch.random.fork_rng([]),
    ):
        warnings.simplefilter("ignore")  # of the compiler, about tensors of its own
        objective(batch)
    return sum(t.untyped_storage().nbytes() for place, t in held.items() if place not in own)
