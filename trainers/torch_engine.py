"""Plain PyTorch engine for one worker: fine-tuning has it, and the loop's tests."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pipelines.core.batch import Batch
from trainers.accumulation import Passes, accumulate
from trainers.core.engine import OptimizerConfig, StepOutput
from trainers.core.objective import Objective
from trainers.core.phases import Phases
from trainers.ema import Averages
from trainers.optimizers import build_optimizer, set_rate


class TorchEngine:
    """One worker, no sharding; same updates as the DeepSpeed engine's stage 0.

    Args:
        objective: What to train.
        optimizer: What updates it, how fast, and the average of its weights.
        device: Where to train.
        parts: Into which a step's batch is cut, to hold the activations of one alone.
    """

    rank = 0
    world_size = 1

    def __init__(
        self,
        objective: Objective,
        optimizer: OptimizerConfig,
        device: torch.device,
        parts: int = 1,
    ):
        self.objective = objective.to(device)
        self.device = device
        self.phases = Phases(device)
        self._clip, self._parts = optimizer.clip, parts
        self._optimizer = build_optimizer(objective, optimizer, device)
        decay = optimizer.ema
        self._averages = None if decay is None else Averages(objective, decay, device)

    def step(self, batch: Batch, learning_rate: float) -> StepOutput:
        """Forward, backward and update."""
        passes = Passes(self.phases, lambda work: work(), torch.autograd.backward)
        output = accumulate(self.objective, batch, self._parts, passes)
        with self.phases("optimizer"):
            limit = self._clip or float("inf")
            norm = torch.nn.utils.clip_grad_norm_(self.objective.parameters(), limit)
            set_rate(self._optimizer, learning_rate)
            self._optimizer.step()
            self._optimizer.zero_grad()
            if self._averages:
                self._averages.update()
        return StepOutput(output, norm)

    def mean(self, values: Tensor) -> Tensor:
        """One worker's values are the mean."""
        return values

    def weights(self) -> dict[str, Tensor]:
        """All parameters and buffers; averages, where weights are averaged."""
        averages = self._averages
        return averages.weights(self.objective) if averages else dict(self.objective.state_dict())

    def save(self, folder: Path) -> None:
        """Write module and optimizer."""
        state = {"module": self.objective.state_dict(), "optimizer": self._optimizer.state_dict()}
        if self._averages:
            averages = {name: self._averages.whole(name) for name in self._averages.names}
            state["averages"] = {"updates": self._averages.updates, "values": averages}
        torch.save(state, folder / "torch.pt")

    def load(self, folder: Path) -> None:
        """Read module and optimizer."""
        state = torch.load(folder / "torch.pt", map_location=self.device, weights_only=True)
        self.objective.load_state_dict(state["module"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._averages:
            self._averages.updates = state["averages"]["updates"]
            for name, value in state["averages"]["values"].items():
                self._averages.put(name, value)
