"""Contract of objectives: a loss over views, and nothing about how it is trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from pipelines.core.batch import Batch, ViewSpec


@dataclass(frozen=True)
class LossOutput:
    """A step's result on one worker.

    Attributes:
        loss: Mean over this worker's samples, such that the mean over workers
            is the loss of the global batch. []
        metrics: Further means of the same kind, detached. [] each
    """

    loss: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Surroundings:
    """What an objective may know when it is built.

    Attributes:
        size: Side of the images, in pixels.
        vocabulary: Number of tokens, 0 without a tokenizer.
        length: Tokens of a text.
    """

    size: int
    vocabulary: int = 0
    length: int = 0


class Objective(nn.Module, ABC):
    """Base of objectives; a file in ``trainers/objectives``, built from its nested ``Config``."""

    views: ViewSpec

    @abstractmethod
    def forward(self, batch: Batch) -> LossOutput:
        """Compute the loss of one worker's share of a global batch."""

    def after_step(self, progress: float) -> None:
        """Update what gradients do not, such as a momentum teacher.

        Args:
            progress: Share of the run that is done, in [0, 1].
        """
        del progress

    @abstractmethod
    def encoders(self) -> Mapping[str, nn.Module]:
        """Modules for evaluation and export.

        ``image`` is the tower whose features are used; where there is a joint
        space, ``image_embedding`` and ``text_embedding`` map to it.
        """
