"""Contract of engines: what turns a loss into an update, on one worker or many."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from pipelines.core import Config
from pipelines.core.batch import Batch
from trainers.core.objective import LossOutput, Objective


class EngineConfig(Config):
    """How a profile trains: nothing here changes what is learned, up to rounding.

    Attributes:
        zero_stage: Stage of ZeRO (Rajbhandari et al., 2020, arXiv:1910.02054).
        precision: Number format of the forward and backward pass.
    """

    zero_stage: Literal[0, 1, 2, 3] = 0
    precision: Literal["fp32", "bf16"] = "fp32"


class OptimizerConfig(Config):
    """AdamW (Loshchilov and Hutter, 2019, arXiv:1711.05101) with warm-up and cosine decay.

    Attributes:
        learning_rate: Peak.
        final_rate: Share of the peak that is left at the end.
        warmup: Samples over which the rate rises from 0.
        weight_decay: Not applied to norms, biases and other vectors.
        betas: Decay of the first and second moment.
        eps: Added to the denominator.
        clip: Largest norm of the gradient; 0 for no limit.
    """

    learning_rate: float = 1e-3
    final_rate: float = 0.0
    warmup: int = 0
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    clip: float = 1.0


@dataclass(frozen=True)
class StepOutput:
    """What a step leaves: the local loss and metrics, and the gradient's norm before clipping."""

    output: LossOutput
    grad_norm: Tensor


class Engine(Protocol):
    """Trains one objective; every worker holds one and calls it equally often."""

    objective: Objective
    device: torch.device
    rank: int
    world_size: int

    def step(self, batch: Batch, learning_rate: float) -> StepOutput:
        """Forward, backward and update."""
        ...

    def mean(self, values: Tensor) -> Tensor:
        """Average over workers."""
        ...

    def weights(self) -> dict[str, Tensor]:
        """All parameters and buffers, whole on worker 0; every worker must call it."""
        ...

    def save(self, folder: Path) -> None:
        """Write this worker's files into an empty local folder."""
        ...

    def load(self, folder: Path) -> None:
        """Read what ``save`` wrote; the files have been verified."""
        ...


def parameter_groups(objective: Objective, weight_decay: float) -> list[dict[str, object]]:
    """Split trainable parameters: matrices decay; vectors (norms, biases, scales) do not."""
    parameters = [p for p in objective.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
