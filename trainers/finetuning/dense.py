"""A class for each pixel, by a linear head on the tower's places."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from pipelines import core
from pipelines.core.batch import Batch
from pipelines.core.randomness import uniform
from pipelines.views import normalise, pixels
from trainers.classifier import Classifier, copied, interpolate, with_layer_decay
from trainers.core.engine import OptimizerConfig
from trainers.core.evaluation import GalleryRow
from trainers.epochs import train_epochs
from trainers.finetune_task import ROWS, Learned, Score, Task, stage_of
from trainers.labels import hash_order
from trainers.mask_pictures import mask_rows
from trainers.segmentation import (
    DenseNetwork,
    Masks,
    answers,
    confusions,
    dense_network,
    dense_outcome,
    masks_of,
    targets,
)

_FLIP = 2  # stream of random numbers


class Dense:
    """Segmentation: first the head alone learns, then all of the tower, from there.

    The head is linear, on the features of each place, and its logits are enlarged to pixels, as
    DINOv2 is judged (Oquab et al., 2023, arXiv:2304.07193). Models whose weights lie between both
    stages are scored too, see the mode ``full``.
    """

    class Config(core.Config):
        """Both trainings.

        Attributes:
            head_epochs: Passes over the pictures in which the head alone learns.
            head_rate: Peak of its learning rate.
            epochs: Passes in which all learns; 0 for none.
            batch: Pictures of a step, at most.
            optimizer: Of the second training; the warm-up counts pictures.
            layer_decay: Factor of the learning rate for each block further from the head.
            flip: Probability of mirroring a picture with its mask.
            ensemble: Shares of the fine-tuned weights; 0 and 1 are always scored.
        """

        head_epochs: int = Field(20, ge=1)
        head_rate: float = Field(0.01, gt=0)
        epochs: int = Field(20, ge=0)
        batch: int = Field(32, ge=1)
        optimizer: OptimizerConfig = OptimizerConfig(learning_rate=3e-4)
        layer_decay: float = Field(0.75, gt=0, le=1)
        flip: float = Field(0.5, ge=0, le=1)
        ensemble: tuple[Annotated[float, Field(ge=0, le=1)], ...] = (0, 0.5, 1)

    def __init__(self, config: Config):
        self.config = config

    def run(self, task: Task) -> Learned:
        """Train the head, then everything, and score what lies between.

        Raises:
            UserError: There are no masks, the tower has no places, or something is not finite.
        """
        c, masks = self.config, masks_of(task)
        network = dense_network(task.tower, task.labelled.reference.images, len(task.classes))
        learns = [p for p in network.tower.parameters() if p.requires_grad]
        for parameter in learns:
            parameter.requires_grad_(False)
        # A rate that falls to nothing, no decay: the head is convex in its weights.
        head = OptimizerConfig(learning_rate=c.head_rate, weight_decay=0.0, clip=0.0)
        self._train(network, head, task, c.head_epochs)
        start = copied(network)
        if not c.epochs:
            return Learned(tuple(self._scores(network, task, masks, 0.0)), start)
        for parameter in learns:
            parameter.requires_grad_(True)
        optimizer = with_layer_decay(Classifier(network), c.optimizer, c.layer_decay)
        self._train(network, optimizer, task, c.epochs)
        end = copied(network)
        scores: list[Score] = []
        for alpha in sorted({0.0, *c.ensemble, 1.0}):
            network.load_state_dict(interpolate(start, end, alpha))
            scores += self._scores(network, task, masks, alpha)
        return Learned(tuple(scores), end)

    def _train(
        self, network: DenseNetwork, optimizer: OptimizerConfig, task: Task, epochs: int
    ) -> None:
        build = partial(self._batch, task)
        train_epochs(Classifier(network), optimizer, build, task, epochs, self.config.batch)

    def _batch(self, task: Task, some: Tensor, keys: Tensor) -> Batch:
        reference = task.labelled.reference
        if reference.masks is None:
            raise ValueError("masks were checked before")
        stored = torch.from_numpy(np.ascontiguousarray(reference.images[some.numpy()]))
        labels = targets(reference.masks[some.numpy()]).to(task.device)
        images = normalise(pixels(stored.to(task.device)))
        mirrored = (uniform(keys, _FLIP, 1)[:, 0] < self.config.flip).to(task.device)
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
        labels = torch.where(mirrored[:, None, None], labels.flip(2), labels)
        return Batch(some, keys.to(task.device), {"image": images, "label": labels})

    def _scores(
        self, network: DenseNetwork, task: Task, masks: Masks, alpha: float
    ) -> Iterator[Score]:
        stage = stage_of(alpha)
        frequent = _frequent(task)
        for name, labelled in task.sets.items():
            images, count = labelled.test.images, len(task.classes)
            counted = confusions(network, images, masks[name], count, task.device)
            rows: tuple[GalleryRow, ...] = ()
            if alpha == 1 or not self.config.epochs:  # the model that is kept
                some = hash_order(labelled.test.keys)[:ROWS]
                found = answers(network, images[some], task.device).to(torch.uint8).numpy()
                rows = mask_rows(images[some], masks[name][some], found, task.classes)
            outcome = dense_outcome(counted, frequent, rows)
            yield Score(stage=stage, alpha=alpha, dataset=name, outcome=outcome)


def _frequent(task: Task) -> int:
    masks = task.labelled.reference.masks
    numbers = np.zeros(0, np.uint8) if masks is None else masks.ravel()
    counts = np.bincount(numbers, minlength=len(task.classes))
    return int(counts[: len(task.classes)].argmax())
