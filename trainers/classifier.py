"""A tower with a linear head, and what fine-tuning does to its weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.core import ConfigError
from pipelines.core.batch import Batch
from trainers.blocks import blocks, learns
from trainers.core.engine import OptimizerConfig
from trainers.core.objective import LossOutput, Objective
from trainers.optimizers import parameter_groups

IGNORED = -100
"""Label of what does not count, as ``cross_entropy`` has it."""


class Network(nn.Module):
    """A tower, standardisation as the probe has it, and a linear head.

    Args:
        tower: Copied; all of it learns, if none of it did.
        head: ``mean`` and ``scale`` of features [D], ``head.weight`` [C, D], ``head.bias`` [C].
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, tower: nn.Module, head: Mapping[str, Tensor]):
        super().__init__()
        self.tower = copy.deepcopy(tower)
        if not learns(self.tower):  # a teacher
            self.tower.requires_grad_(True)
        classes, width = head["head.weight"].shape
        self.head = nn.Linear(width, classes)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.load_state_dict(head, strict=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits. [B, 3, H, W] in [-1, 1] -> [B, C]."""
        logits: Tensor = self.head((self.tower(images) - self.mean) / self.scale)
        return logits


class Classifier(Objective):
    """Cross-entropy of a network's logits, the mean of all labels that count.

    Views are ``image`` and ``label``: [B] int64, or [B, H, W] where the network is of pixels.
    """

    def __init__(self, network: Network):
        super().__init__()
        self.network = network

    def forward(self, batch: Batch) -> LossOutput:
        """Classify every image, or every pixel; without any that counts the loss is 0."""
        logits = self.network(batch.views["image"])
        labels = batch.views["label"]
        total = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
        return LossOutput(total / (labels != IGNORED).sum().clamp(min=1))

    def encoders(self) -> Mapping[str, nn.Module]:
        """The tower."""
        return {"image": self.network.tower}


def depths(network: Network) -> tuple[dict[str, int], int]:
    """Depth of every parameter in the tower.

    What a tower registers before its first block (its embeddings) has depth 0, its i-th
    block i from 1 on, and what comes after the last block, like the head, N + 1.

    Returns:
        Depth by name of the parameter, and N + 1.

    Raises:
        ConfigError: The tower has no blocks.
    """
    found = list(blocks(network.tower))
    if not found:
        raise ConfigError("mode.layer_decay: this tower has no blocks; set it to 1.0")
    inside = {id(p): i for i, block in enumerate(found, 1) for p in block.parameters()}
    result, passed = {}, False
    for name, parameter in network.named_parameters():
        passed = passed or id(parameter) in inside
        result[name] = inside.get(id(parameter), len(found) + 1 if passed else 0)
    return result, len(found) + 1


def with_layer_decay(
    classifier: Classifier, optimizer: OptimizerConfig, decay: float
) -> OptimizerConfig:
    """Multiply each parameter's rate by decay ^ (N + 1 - its depth).

    As in BEiT (Bao et al., 2022, arXiv:2106.08254) and MAE (He et al., 2022,
    arXiv:2111.06377), after Clark et al., 2020, arXiv:2003.10555.

    Args:
        classifier: What is trained.
        optimizer: Its own ``rates`` are factors as well.
        decay: In (0, 1]; 1 leaves the rates as they are.

    Raises:
        ConfigError: The tower has no blocks, or a pattern fits no parameter.
    """
    if decay == 1:
        return optimizer
    depth, top = depths(classifier.network)
    groups = parameter_groups(classifier, optimizer)
    own = {id(p): float(group["scale"]) for group in groups for p in group["params"]}
    rates = {
        f"network.{name}": own[id(p)] * decay ** (top - depth[name])
        for name, p in classifier.network.named_parameters()
        if p.requires_grad
    }
    return optimizer.model_copy(update={"rates": rates})


def copied(network: nn.Module) -> dict[str, Tensor]:
    """Weights and buffers as they are now; later training leaves them alone."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def interpolate(
    start: Mapping[str, Tensor], end: Mapping[str, Tensor], alpha: float
) -> dict[str, Tensor]:
    """Mix weights: (1 - alpha) start + alpha end, exactly the ends at 0 and 1."""
    return {
        name: torch.lerp(value, end[name], alpha) if value.is_floating_point() else value
        for name, value in start.items()
    }
