"""Contract of objectives: a loss over views, and nothing about how it is trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pipelines.core.batch import Batch
from pipelines.views import ViewSpec

Rows = Mapping[str, Tensor]
"""What samples give, by name; each tensor's first dimension is that of the samples."""


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
        frames: Frames of a clip as it is decoded, 0 without video.
        frame_size: Side of the frames, in pixels.
        frame_rate: Frames a second.
        sound: Samples of a waveform, 0 without audio.
        sound_rate: Samples a second.
    """

    size: int
    vocabulary: int = 0
    length: int = 0
    frames: int = 0
    frame_size: int = 0
    frame_rate: float = 0.0
    sound: int = 0
    sound_rate: int = 0


class Objective(nn.Module, ABC):
    """Base of objectives; a file in ``trainers/objectives``, built from its nested ``Config``.

    Attributes:
        views: What it wants of each sample.
        chance: Where it classifies a label that it drew itself, the metric ``accuracy`` of a
            guesser; None for others. A metric ``chance`` says so where it depends on the batch.
            A metric ``usable`` is the share of samples that ``accuracy`` is over, where that is
            not all of them; ``answers`` is how many answers a sample gives, where that is not one.
    """

    views: ViewSpec
    chance: float | None = None

    @abstractmethod
    def forward(self, batch: Batch) -> LossOutput:
        """Compute the loss of one worker's share of a global batch.

        A mean over samples that each count alike and do not look at one another; an objective
        whose loss is anything else is a ``ComparingObjective``.
        """

    def after_step(self, progress: float) -> None:
        """Update what gradients do not, such as a momentum teacher.

        Args:
            progress: Share of the run that is done, in [0, 1].
        """
        del progress

    def pictures(self, images: Tensor) -> Mapping[str, Tensor]:
        """Show on images what was learned, for a report; most objectives have nothing to show.

        Args:
            images: In [-1, 1]. [B, 3, H, W]

        Returns:
            A picture of each image by heading, such as ``painted``. [B, H, W, 3] uint8 each
        """
        del images
        return {}

    @abstractmethod
    def encoders(self) -> Mapping[str, nn.Module]:
        """Modules for evaluation and export.

        ``image`` is the tower whose features of images are used, ``video`` that of clips,
        ``audio`` that of waveforms and ``text`` that of token ids; where there is a joint space,
        ``image_embedding`` and ``text_embedding`` map to it.
        """


class ComparingObjective(Objective):
    """Base of objectives whose loss looks across samples, such as contrastive ones.

    What a sample gives by itself is apart from what is made of all samples, so that a batch
    can be encoded in parts while its loss stays that of the whole (``trainers.accumulation``).
    ``encode`` and ``targets`` change nothing and draw random numbers from keys alone.

    Attributes:
        repeats: Whether a batch may have a sample several times: samples are not set against
            each other, or not against themselves.
    """

    repeats: bool = False

    @abstractmethod
    def encode(self, batch: Batch) -> Rows:
        """What each sample gives by itself; run a second time where gradients flow through it."""

    def targets(self, batch: Batch) -> Rows:
        """What each sample gives by itself without any gradient, such as a teacher's features."""
        del batch
        return {}

    @abstractmethod
    def compare(self, rows: Rows, batch: Batch) -> LossOutput:
        """Compute the loss; every worker calls it once a step.

        Args:
            rows: Of ``encode`` and ``targets``, for all samples of the batch.
            batch: One worker's share of a global batch.
        """

    def rows(self, batch: Batch) -> Rows:
        """All that ``compare`` needs of these samples."""
        encoded = self.encode(batch)
        with torch.no_grad():
            targets = self.targets(batch)
        return {**encoded, **targets}

    def forward(self, batch: Batch) -> LossOutput:
        """Compute the loss of one worker's share of a global batch."""
        return self.compare(self.rows(batch), batch)
