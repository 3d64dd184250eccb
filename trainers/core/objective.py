"""Contract of objectives: a loss over views, and nothing about how it is trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from pipelines.core.batch import Batch
from pipelines.views import ViewSpec


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

        ``image`` is the tower whose features of images are used, ``video`` that of clips,
        ``audio`` that of waveforms and ``text`` that of token ids; where there is a joint space,
        ``image_embedding`` and ``text_embedding`` map to it.
        """
