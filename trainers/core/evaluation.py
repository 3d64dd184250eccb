"""Contract of evaluations: what they receive, what they return, how a run asks for one."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pipelines.core import Config


@dataclass(frozen=True)
class Answers:
    """How a model did at the task that it was trained on.

    Attributes:
        right: How many answers are right.
        examples: Of how many.
        chance: Share that a guesser gets right.
        samples: How many samples the answers are of; those of one sample resemble one another.
    """

    right: int
    examples: int
    chance: float
    samples: int


class Encoders(Protocol):
    """A frozen model, as an evaluation sees it. N images or texts, D dimensions."""

    def features(self, images: npt.NDArray[np.uint8]) -> Tensor:
        """Features of the image tower, before any head. [N, H, W, 3] -> [N, D] float32."""
        ...

    def pictures(self, images: npt.NDArray[np.uint8]) -> Mapping[str, npt.NDArray[np.uint8]]:
        """Show on images what was learned: a picture of each by heading, where there are any.

        [N, H, W, 3] -> [N, H, W, 3] each.
        """
        ...

    def embed_images(self, images: npt.NDArray[np.uint8]) -> Tensor:
        """Images in the joint space, of unit length. [N, H, W, 3] -> [N, D] float32.

        Raises:
            UserError: The model has no joint space of images and texts.
        """
        ...

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Texts in the joint space, of unit length. N texts -> [N, D] float32.

        Raises:
            UserError: The model has no text tower.
        """
        ...

    def readings(self, texts: Sequence[str]) -> Sequence[Hashable]:
        """What is read of texts: equal for those that cannot be told apart."""
        ...

    def films(self, data: Config, label: str, samples: int) -> tuple[Tensor, Sequence[str]]:
        """Features of the video tower, of cuts as in training that are not augmented.

        Args:
            data: Config of a source.
            label: Text field of its samples.
            samples: How many of them; all where it has fewer. Unreadable ones are left out, if
                they are few.

        Returns:
            Features before any head, and the label of each. [N, D] float32, N texts

        Raises:
            UserError: The model has no video tower, or no sample is readable.
        """
        ...

    def proxy(self, data: Config, samples: int, seed: int) -> Answers:
        """Set the model the task that it was trained on.

        Args:
            data: Config of a source.
            samples: How many of its samples; all where it has fewer.
            seed: Of their order and of every random choice of the task.

        Raises:
            UserError: The task has no labels, no sample can be judged, or training diverged.
        """
        ...


@dataclass(frozen=True)
class EvaluationData:
    """A data set at hand.

    Attributes:
        keys: Key of each sample.
        images: [N, H, W, 3] uint8.
        texts: Text fields by name, N strings each.
        lists: Those that end in ``[]``, N lists of strings each; ``texts`` lacks them.
        masks: A class for each pixel, where they were asked for. [N, H, W] uint8
    """

    keys: Sequence[str]
    images: npt.NDArray[np.uint8]
    texts: Mapping[str, Sequence[str]]
    masks: npt.NDArray[np.uint8] | None = None
    lists: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class Texts:
    """Texts of a data set whose images are not loaded.

    Attributes:
        numbers: Of the samples, in their source.
        keys: Key of each.
        texts: Text fields by name, as many strings each.
    """

    numbers: Sequence[int]
    keys: Sequence[str]
    texts: Mapping[str, Sequence[str]]

    def __len__(self) -> int:
        return len(self.keys)


Load = Callable[[str, Mapping[str, str]], EvaluationData]
"""Loads (URL pattern, text fields): ``load(url, {"caption": "txt", "label": "json.group"})``."""


class Cell(Config):
    """One picture or text of the report's galleries."""

    image: str | None = None  # base64 of a PNG
    text: str = ""
    score: float | None = None
    mark: Literal["", "query", "right", "wrong"] = ""


class GalleryRow(Config):
    """A row of cells under a heading such as ``correct``, ``wrong`` or ``text to image``."""

    group: str
    cells: tuple[Cell, ...]


class Outcome(Config):
    """What an evaluation found.

    Attributes:
        metrics: All metrics by name, as shares in [0, 1] where they are accuracies.
        headline: Name of the metric that charts and tables show.
        chance: The headline metric of a guesser.
        examples: How many examples the headline is over.
        interval: Bootstrap 95 % interval of the headline metric.
        gallery: Pictures for the report.
    """

    metrics: Mapping[str, float]
    headline: str
    chance: float
    examples: int
    interval: tuple[float, float]
    gallery: tuple[GalleryRow, ...] = ()


class Evaluation(Protocol):
    """One measure of a frozen model; a file in ``trainers/evaluations``.

    Its ``Config`` has at least ``name`` (of the data set, for tables) and
    ``data`` (takes a URL pattern of shards).
    """

    def run(self, model: Encoders, load: Load) -> Outcome:
        """Measure a model.

        Raises:
            UserError: The data or the model lacks what this evaluation needs.
        """
        ...


class EvaluationResult(Config):
    """One result as filed: ``RUN/evaluations/<samples>/<evaluation>-<dataset>.json``."""

    evaluation: str
    dataset: str
    samples: int
    checkpoint: str
    digest: str
    status: Literal["ok", "failed"]
    seconds: float
    outcome: Outcome | None = None
    error: str | None = None


class EvaluationRequest(Config):
    """All evaluations that a commit asks for; evaluations are plain data with their ``kind``.

    ``folder`` is where relative paths of data sets start.
    """

    run: str
    folder: str
    checkpoint: str
    digest: str
    samples: int
    evaluations: tuple[Mapping[str, object], ...]


class EvaluationSink(Protocol):
    """Where a trainer leaves its requests; never waits for a result."""

    def submit(self, request: EvaluationRequest) -> None:
        """Hand over a request and return at once."""
        ...
