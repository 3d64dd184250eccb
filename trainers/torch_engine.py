"""Plain PyTorch engine for one worker: the fake that the loop's tests use."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pipelines.core.batch import Batch
from trainers.core.engine import OptimizerConfig, StepOutput, parameter_groups
from trainers.core.objective import Objective


class TorchEngine:
    """One worker, AdamW, no sharding; same updates as the DeepSpeed engine's stage 0."""

    rank = 0
    world_size = 1

    def __init__(self, objective: Objective, optimizer: OptimizerConfig, device: torch.device):
        self.objective = objective.to(device)
        self.device = device
        self._clip = optimizer.clip
        self._optimizer = torch.optim.AdamW(
            parameter_groups(objective, optimizer.weight_decay),
            lr=optimizer.learning_rate,
            betas=optimizer.betas,
            eps=optimizer.eps,
        )

    def step(self, batch: Batch, learning_rate: float) -> StepOutput:
        """Forward, backward and update."""
        output = self.objective(batch)
        output.loss.backward()
        limit = self._clip or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.objective.parameters(), limit)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad()
        return StepOutput(output, norm)

    def mean(self, values: Tensor) -> Tensor:
        """One worker's values are the mean."""
        return values

    def weights(self) -> dict[str, Tensor]:
        """All parameters and buffers."""
        return dict(self.objective.state_dict())

    def save(self, folder: Path) -> None:
        """Write module and optimizer."""
        state = {"module": self.objective.state_dict(), "optimizer": self._optimizer.state_dict()}
        torch.save(state, folder / "torch.pt")

    def load(self, folder: Path) -> None:
        """Read module and optimizer."""
        state = torch.load(folder / "torch.pt", map_location=self.device, weights_only=True)
        self.objective.load_state_dict(state["module"])
        self._optimizer.load_state_dict(state["optimizer"])
