"""DeepSpeed engine: ZeRO stages 0 to 3 under one interface."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pipelines.core.batch import Batch
from trainers.core.engine import EngineConfig, OptimizerConfig, StepOutput, parameter_groups
from trainers.core.objective import Objective

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("DS_IGNORE_CUDA_DETECTION", "1")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecations inside the library, at import
    import deepspeed

    from trainers.deepspeed_state import load_state, save_state


class DeepSpeedEngine:
    """Trains an objective over the workers of the current process group.

    Args:
        objective: What to train; its parameters are broadcast from worker 0.
        optimizer: AdamW's settings and the clipping norm.
        config: Stage and precision.
        local_batch: Samples of a step on this worker.
        device: Where to train.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: OptimizerConfig,
        config: EngineConfig,
        local_batch: int,
        device: torch.device,
    ):
        self.objective = objective
        self.device = device
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self._config, self._clip = config, optimizer.clip
        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
        if device.type == "cpu":
            # Gloo does the communication; the library's own operator would need a compiler.
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        groups = parameter_groups(objective, optimizer.weight_decay)
        adamw = torch.optim.AdamW(
            groups, lr=optimizer.learning_rate, betas=optimizer.betas, eps=optimizer.eps
        )
        self._engine = deepspeed.initialize(
            model=objective,
            optimizer=adamw,
            config=self._settings(local_batch),
            dist_init_required=False,
        )[0]

    @property
    def _clips_itself(self) -> bool:
        # Without a ZeRO wrapper the library clips but keeps the norm to itself.
        return self._config.zero_stage == 0

    def _settings(self, local_batch: int) -> dict[str, Any]:
        return {
            "train_micro_batch_size_per_gpu": local_batch,
            "gradient_accumulation_steps": 1,
            "gradient_clipping": 0.0 if self._clips_itself else self._clip,
            "zero_optimization": {"stage": self._config.zero_stage},
            "zero_allow_untested_optimizer": True,
            # Not the library's bf16 section: it has inputs cast by the caller, and keeps losses in
            # bf16; under autocast weights, moments, norms and losses stay in fp32.
            "torch_autocast": {
                "enabled": self._config.precision == "bf16",
                "dtype": "bfloat16",
            },
            "steps_per_print": 1 << 60,
        }

    def step(self, batch: Batch, learning_rate: float) -> StepOutput:
        """Forward, backward and update."""
        output = self._engine(batch)
        self._engine.backward(output.loss)
        norm = self._clip_here() if self._clips_itself else None
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        self._engine.step()
        if norm is None:
            norm = torch.as_tensor(self._engine.get_global_grad_norm() or 0.0)
        return StepOutput(output, norm)

    def _clip_here(self) -> Tensor:
        limit = self._clip or float("inf")
        return torch.nn.utils.clip_grad_norm_(self.objective.parameters(), limit)

    def mean(self, values: Tensor) -> Tensor:
        """Average over workers, in place."""
        dist.all_reduce(values)
        return values.div_(self.world_size)

    def weights(self) -> dict[str, Tensor]:
        """All parameters and buffers, whole, on worker 0; every worker must call it."""
        if self._config.zero_stage < 3:
            return dict(self.objective.state_dict())
        parameters = list(self.objective.parameters())
        with deepspeed.zero.GatheredParameters(parameters, modifier_rank=None):
            return {name: value.clone() for name, value in self.objective.state_dict().items()}

    def save(self, folder: Path) -> None:
        """Write this worker's part of weights, moments and buffers; every worker must call it."""
        save_state(self.objective, self._engine.optimizer, self.rank, self.world_size, folder)

    def load(self, folder: Path) -> None:
        """Read what ``save`` wrote, on any number of workers and under any ZeRO stage."""
        load_state(self.objective, self._engine.optimizer, self.rank, folder)
