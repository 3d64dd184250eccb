"""Floating-point operations of an objective, and how much of a device's peak a rate of them is."""

from __future__ import annotations

import copy
import logging
import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, conv_backward_flop

from pipelines.core.batch import Batch
from trainers.blocks import checkpoint_blocks
from trainers.core.collective import alone
from trainers.core.engine import EngineConfig
from trainers.core.objective import ComparingObjective, Objective

_COUNTED = 8  # samples: enough for losses that compare samples
_log = logging.getLogger(__name__)


def flops_per_sample(objective: Objective, batch: Batch) -> float:
    """Count what a forward and a backward pass compute, on a copy of the objective.

    Products of matrices, convolutions and attention count, two operations for a multiplication
    with its addition; what is done element by element does not. At most 8 samples are counted, so
    that products of all samples with all samples (contrastive losses) count less than they would
    in a larger batch; towers count in full. A masked attention counts whole.

    Args:
        objective: Before an engine has wrapped or split it; it is left as it was.
        batch: Views on the objective's device.

    Returns:
        Operations a sample, on one worker.
    """
    return _count(copy.deepcopy(objective), batch)


def computed_per_sample(objective: Objective, batch: Batch, engine: EngineConfig) -> float:
    """Count as ``flops_per_sample``, with what an engine computes again to spare memory.

    Args:
        objective: As there.
        batch: As there.
        engine: Checkpointed blocks pass forward twice, but for their last layers, and a step in
            parts of what compares samples encodes all parts but one twice.
    """
    trial = copy.deepcopy(objective)
    if engine.checkpoint_activations:
        checkpoint_blocks(trial)
    found = _count(trial, batch)
    if engine.accumulate > 1 and isinstance(objective, ComparingObjective):
        once = _count(copy.deepcopy(objective), batch, _forth)
        found += once * (engine.accumulate - 1) / engine.accumulate
    return found


def _forth(objective: Objective, batch: Batch) -> Any:
    return objective(batch).loss


def _forth_and_back(objective: Objective, batch: Batch) -> None:
    _forth(objective, batch).backward()


_Passes = Callable[[Objective, Batch], object]


def _count(objective: Objective, batch: Batch, passes: _Passes = _forth_and_back) -> float:
    """Operations a sample of some passes."""
    objective.train()
    few = batch.first(_COUNTED)
    # Fused kernels of attention are not all known to the counter; its plain form is two products.
    with (
        alone(),
        _same_randomness(few.samples.device),
        _uncompiled(few.samples.device),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False, custom_mapping=_FORMULAS) as counter,
    ):
        passes(objective, few)
    return float(counter.get_total_flops()) / len(few)


_one_group: Any = conv_backward_flop  # wrapped, so that it has other arguments than it says


def _convolution_back(*shapes: Any, out_shape: Any) -> int:
    """Operations of a convolution's backward pass, by the library's formula for one group.

    It counts the gradient of weights of several groups, as of depthwise convolutions, as if every
    output channel saw every input channel.
    """
    *before, groups, wanted = shapes
    inputs, weights = (
        _one_group(*before, groups, mask, out_val=out_shape)
        for mask in ([wanted[0], False, False], [False, wanted[1], False])
    )
    return int(inputs + weights // groups)


_FORMULAS = {torch.ops.aten.convolution_backward: _convolution_back}


def _same_randomness(device: torch.device) -> AbstractContextManager[None]:
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def _uncompiled(device: torch.device) -> AbstractContextManager[None]:
    """Call functions as they are written: beneath a counter they would never be compiled again."""
    if device.type != "cuda" and "torch._dynamo" not in sys.modules:
        return nullcontext()  # the compiler takes seconds to import
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance


@dataclass(frozen=True)
class _Peak:
    """Dense operations a second: ``half`` of bf16 and fp16 on tensor cores, ``single`` of fp32."""

    words: tuple[str, ...]
    half: float
    single: float
    bf16: bool = True


# Of the vendor's data sheets, without sparsity. The H200's was looked up on 2026-11-26; the others
# are as remembered: look them up again before a share of one is published. The first whose words
# are all in a device's name counts. fp32 is that of plain cores: torch's products of matrices use
# TF32 only if told to.
_PEAKS = (
    _Peak(("B200",), 2250e12, 75e12),
    _Peak(("H200", "NVL"), 835e12, 60e12),
    _Peak(("H200",), 989e12, 67e12),
    _Peak(("H100", "PCIE"), 756e12, 51e12),
    _Peak(("H100", "NVL"), 835e12, 60e12),
    _Peak(("H100", "HBM3"), 989e12, 67e12),
    _Peak(("A100",), 312e12, 19.5e12),
    _Peak(("L40S",), 362e12, 91.6e12),
    _Peak(("L4",), 121e12, 30.3e12),
    _Peak(("V100", "SXM2"), 125e12, 15.7e12, bf16=False),
    _Peak(("V100", "PCIE"), 112e12, 14e12, bf16=False),
)


def peak(device: str, precision: str) -> float | None:
    """Operations a second that a device is able to, by its data sheet.

    Args:
        device: Its name, as CUDA tells it.
        precision: ``fp32``, ``bf16`` or ``fp16``.

    Returns:
        None where it is not known, as of a part of a device (MIG).
    """
    words = set(re.split(r"[\s-]+", device.upper()))
    row = next((row for row in _PEAKS if words.issuperset(row.words)), None)
    if row is None or "MIG" in words or (precision == "bf16" and not row.bf16):
        return None
    return row.single if precision == "fp32" else row.half


def utilisation(
    rate: float, device: torch.device, precision: str, workers: int
) -> dict[str, float]:
    """Say what a rate of operations is of the peak (Chowdhery et al., 2022, arXiv:2204.02311).

    Args:
        rate: Operations a second of all workers, without those that are made a second time
            to spare memory.
        device: That each worker trains on.
        precision: Of the forward and backward pass.
        workers: How many.

    Returns:
        ``flops_per_second`` and, where the device's peak is known, ``mfu``.
    """
    limit = peak(torch.cuda.get_device_name(device), precision) if device.type == "cuda" else None
    return {"flops_per_second": rate} | ({"mfu": rate / (limit * workers)} if limit else {})


class Effort:
    """Adds to lines of metrics how fast a run computes.

    Args:
        objective: Before an engine has wrapped or split it. A copy is kept until the first batch
            is counted.
        device: Where to count: the training device.
        precision: Of the forward and backward pass.
        workers: How many train.
    """

    def __init__(self, objective: Objective, device: torch.device, precision: str, workers: int):
        self._copy: Objective | None = None
        if _fits(objective, device):
            self._copy = copy.deepcopy(objective)
        self._device, self._precision, self._workers = device, precision, workers
        self._flops = 0.0

    def count(self, batch: Batch) -> None:
        """Count a sample's operations, where there is memory for it."""
        if self._copy is None:
            return
        try:
            self._flops = _count(self._copy.to(self._device), batch)
        except torch.OutOfMemoryError:  # counted in full precision, with plain attention
            _log.warning("a step's operations are not counted: there is no memory for it")
        self._copy = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)

    def rates(self, samples_per_second: float) -> dict[str, float]:
        """What a rate of samples, of all workers, is in operations; nothing if none were counted.

        Returns:
            As ``utilisation`` does.
        """
        if not self._flops:
            return {}
        rate = samples_per_second * self._flops
        return utilisation(rate, self._device, self._precision, self._workers)


def _fits(objective: Objective, device: torch.device) -> bool:
    """Whether a whole copy with its gradients leaves most of a GPU's memory alone."""
    if device.type != "cuda":
        return True
    weights = sum(p.numel() * p.element_size() for p in objective.parameters())
    return 2 * weights < torch.cuda.get_device_properties(device).total_memory / 4
