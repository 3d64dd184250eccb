"""Contract of modes. M labelled examples, N of a test set, C classes, D dimensions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pipelines.core import Config
from pipelines.views import normalise, pixels
from trainers.core.evaluation import Outcome
from trainers.labels import Labelled

_BATCH = 256
ROWS = 12  # of pictures in the report, for each set


@dataclass(frozen=True)
class Task:
    """What a mode is given.

    Attributes:
        tower: Image tower, on the device; to be left as it is.
        sets: Test sets by name, all with the same few labelled examples as reference.
        seed: Of order and augmentation.
        device: Where to compute.
        progress: Called with steps done, and of how many.
        classes: Names of the numbers in masks; none where there are no masks.
    """

    tower: nn.Module
    sets: Mapping[str, Labelled]
    seed: int
    device: torch.device
    progress: Callable[[int, int], None]
    classes: tuple[str, ...] = ()

    @property
    def labelled(self) -> Labelled:
        """One of the sets: its reference is that of all."""
        return next(iter(self.sets.values()))


class Score(Config):
    """How good one model is on one data set.

    Attributes:
        stage: Which model: ``knn``, ``probe``, ``fine-tuned``, or an ensemble of the last two.
        alpha: Share of the fine-tuned model in its weights; None where nothing is fine-tuned.
        dataset: Name of the data set.
        outcome: As evaluations have it.
    """

    stage: str
    alpha: float | None = None
    dataset: str
    outcome: Outcome


def stage_of(alpha: float) -> str:
    """Name of the model whose weights are this share of the fine-tuned ones."""
    return {0.0: "probe", 1.0: "fine-tuned"}.get(alpha, f"ensemble {alpha:g}")


@dataclass(frozen=True)
class Learned:
    """Scores of every stage on every set, and tensors by name to keep."""

    scores: tuple[Score, ...]
    weights: Mapping[str, Tensor]


class Mode(Protocol):
    """One way to use a tower with few labels; a file in ``trainers/finetuning``."""

    def run(self, task: Task) -> Learned:
        """Learn from the labels, and score on every set.

        Raises:
            UserError: The data or the tower lack what this mode needs.
        """
        ...


@torch.inference_mode()
def outputs(module: nn.Module, images: npt.NDArray[np.uint8], device: torch.device) -> Tensor:
    """Run a tower, or a tower with a head, in evaluation mode.

    Args:
        module: On the device.
        images: [N, H, W, 3]
        device: Where to compute.

    Returns:
        Features or logits, on the CPU. [N, D] float32
    """
    module.eval()
    parts = torch.split(torch.from_numpy(images), _BATCH)
    return torch.cat([module(normalise(pixels(p.to(device)))).float().cpu() for p in parts])


def tower_weights(tower: nn.Module) -> dict[str, Tensor]:
    """Tensors of a tower, named as in what a mode returns."""
    return {f"tower.{name}": value for name, value in tower.state_dict().items()}
