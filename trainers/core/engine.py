"""Contract of engines: what turns a loss into an update, on one worker or many."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol

import torch
from pydantic import Field, model_validator
from torch import Tensor

from pipelines.core import Config, ConfigError
from pipelines.core.batch import Batch
from trainers.core.objective import LossOutput, Objective
from trainers.core.phases import Phases

SWAPPED = 1 << 25  # elements that an update reads from the disk at once, about
SWAP_BUFFERS = 4  # of as many: weights, gradients and two moments


class Offload(Config):
    """What is kept in the memory of the host (Ren et al., 2021, arXiv:2101.06840), or on its disk.

    Attributes:
        optimizer: Moments and weights that are updated, which the host then updates. With
            ``nvme`` they lie on a disk, and pass through the host's memory some at a time
            (Rajbhandari et al., 2021, arXiv:2104.07857).
        parameters: Weights between their uses.
        folder: Where that is, with ``nvme``: a folder on a fast local disk of every node.
    """

    optimizer: Literal["none", "cpu", "nvme"] = "none"
    parameters: Literal["none", "cpu"] = "none"
    folder: str = ""


class EngineConfig(Config):
    """How a profile trains: nothing here changes what is learned, up to rounding.

    Attributes:
        zero_stage: Stage of ZeRO (Rajbhandari et al., 2020, arXiv:1910.02054).
        precision: Number format of the forward and backward pass. With fp16 the loss is scaled
            (Micikevicius et al., 2018, arXiv:1710.03740); an update whose gradient overflows is
            left out, and the metric ``overflow`` is the share of those.
        offload: What is kept in the memory of the host.
        checkpoint_activations: Keep the inputs of a tower's blocks alone, and run each block a
            second time in the backward pass (Chen et al., 2016, arXiv:1604.06174).
        compile: Compile the objective's parts with ``torch.compile``.
        accumulate: Parts into which a worker's batch is cut, so that only one part's activations
            are held at a time. Loss, metrics and gradient stay those of the whole batch: an
            objective that compares samples encodes all but one part a second time (Gao et al.,
            2021, arXiv:2101.06983).
    """

    zero_stage: Literal[0, 1, 2, 3] = 0
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    offload: Offload = Offload()
    checkpoint_activations: bool = False
    compile: bool = False
    accumulate: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _goes_together(self) -> EngineConfig:
        if self.offload.optimizer != "none" and self.zero_stage == 0:
            raise ValueError("offload.optimizer needs zero_stage 1, 2 or 3")
        if self.offload.optimizer == "nvme" and self.zero_stage < 3:
            raise ValueError("offload.optimizer nvme needs zero_stage 3")
        if (self.offload.optimizer == "nvme") != bool(self.offload.folder):
            raise ValueError("offload.optimizer nvme and offload.folder need each other")
        if self.offload.parameters != "none" and self.zero_stage < 3:
            raise ValueError("offload.parameters needs zero_stage 3")
        return self


Moment = Annotated[float, Field(ge=0, lt=1)]
"""What is left after a step of a moving average."""


class OptimizerConfig(Config):
    """Optimizer, learning rates and the average of weights; warm-up and cosine decay.

    Attributes:
        kind: ``adamw`` (Loshchilov and Hutter, 2019, arXiv:1711.05101); ``lamb`` (You et al., 2020,
            arXiv:1904.00962), without bias correction and with weights' norms counted up to 10;
            ``muon`` (Jordan et al., 2024) for the matrices of blocks' linear layers, its updates as
            large as AdamW's (Liu et al., 2025, arXiv:2502.16982), and AdamW for the rest.
        learning_rate: Peak.
        final_rate: Share of the peak that is left at the end.
        warmup: Samples over which the rate rises from 0.
        weight_decay: Not applied to norms, biases and other vectors.
        no_decay: Patterns of further parameters' names that do not decay, as in a shell:
            ``*position_embeddings``.
        rates: Factors of the learning rate by pattern of parameters' names; the first that fits
            a name counts.
        betas: Decay of the first and second moment.
        momentum: Of Muon.
        eps: Added to the denominator.
        clip: Largest norm of the gradient; 0 for no limit.
        ema: Decay a step of an exponential moving average of weights (Polyak and Juditsky, 1992),
            which is then what is evaluated and exported; None for no average. In step t the decay
            is at most (1 + t) / (10 + t).
    """

    kind: Literal["adamw", "lamb", "muon"] = "adamw"
    learning_rate: float = Field(default=1e-3, ge=0)
    final_rate: float = Field(default=0.0, ge=0)
    warmup: int = Field(default=0, ge=0)
    weight_decay: float = Field(default=0.05, ge=0)
    no_decay: tuple[str, ...] = ()
    rates: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    betas: tuple[Moment, Moment] = (0.9, 0.98)
    momentum: float = Field(default=0.95, ge=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)
    clip: float = Field(default=1.0, ge=0)
    ema: float | None = Field(default=None, ge=0, lt=1)


def check_together(optimizer: OptimizerConfig, engine: EngineConfig) -> None:
    """Refuse an optimizer that cannot work under a ZeRO stage.

    Raises:
        ConfigError: It needs whole tensors, and the stage splits them.
    """
    if optimizer.kind != "adamw" and engine.zero_stage:
        raise ConfigError(
            f"optimizer.kind {optimizer.kind} needs whole tensors, and stage {engine.zero_stage} "
            "splits them; set the profile's engine.zero_stage to 0, or use optimizer.kind adamw"
        )


@dataclass(frozen=True)
class StepOutput:
    """What a step leaves: the local loss and metrics, and the gradient's norm before clipping.

    Where fp16 overflowed, the norm is that of the last update; not finite where the loss
    was not scaled up, so that nothing but the batch can be at fault.
    """

    output: LossOutput
    grad_norm: Tensor


class Engine(Protocol):
    """Trains one objective; every worker holds one and calls it equally often.

    ``phases`` tells where the time of a step goes; the communication of gradients is of the
    backward pass.
    """

    objective: Objective
    phases: Phases
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
        """All parameters and buffers, whole on worker 0; every worker must call it.

        Where weights are averaged, they are the averages.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write this worker's files into an empty local folder."""
        ...

    def load(self, folder: Path) -> None:
        """Read what ``save`` wrote; the files have been verified."""
        ...
