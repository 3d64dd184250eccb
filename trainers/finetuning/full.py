"""All of the tower is trained on the few labelled pictures."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from pipelines import core
from pipelines.augment import AUGMENTATIONS
from pipelines.augment.none import Nothing
from pipelines.core.batch import Batch
from pipelines.views import normalise, pixels
from trainers.classifier import Classifier, Network, copied, interpolate, with_layer_decay
from trainers.core.engine import OptimizerConfig
from trainers.epochs import train_epochs
from trainers.evaluations.linear_probe import Candidates, learn
from trainers.finetune_task import ROWS, Learned, Score, Task, outputs, stage_of
from trainers.gallery import SHOWN, named_rows
from trainers.labels import labelled_outcome

_AUGMENTATION = 16  # stream of random numbers


class Full:
    """Tower and head are trained from the probe's head on, and ensembled with the probe.

    Training begins with the head that a probe finds on frozen features (Kumar et al., 2022,
    arXiv:2202.10054). It can lower accuracy under shift, so that models whose weights lie
    between the probe's and the fine-tuned ones are scored too (WiSE-FT: Wortsman et al.,
    2022, arXiv:2109.01903). Test data choose none of them: the fine-tuned one is kept.
    """

    class Config(core.Config):
        """The training, and the ensembles.

        Attributes:
            epochs: Passes over the labelled pictures.
            batch: Pictures of a step, at most; an epoch's steps have equally many.
            optimizer: Its rates and schedule; the warm-up counts pictures.
            layer_decay: Factor of the learning rate for each block further from the head.
            augmentation: Of the labelled pictures.
            l2: Of the probe, see the mode ``probe``.
            ensemble: Shares of the fine-tuned weights; 0 (the probe) and 1 are always scored.
        """

        epochs: int = Field(20, ge=1)
        batch: int = Field(64, ge=1)
        optimizer: OptimizerConfig = OptimizerConfig(learning_rate=3e-4)
        layer_decay: float = Field(0.75, gt=0, le=1)
        augmentation: Annotated[core.Config, AUGMENTATIONS] = Nothing.Config()
        l2: Candidates = (1e-1, 1e-2, 1e-3, 1e-4)
        ensemble: tuple[Annotated[float, Field(ge=0, le=1)], ...] = (0, 0.25, 0.5, 0.75, 1)

    def __init__(self, config: Config):
        self.config = config
        self._augment = AUGMENTATIONS.build(config.augmentation)

    def run(self, task: Task) -> Learned:
        """Fit the probe, train from there, and score what lies between.

        Raises:
            UserError: The loss or the features are not finite, or the warm-up is too long.
        """
        images = task.labelled.reference.images
        probe = learn(outputs(task.tower, images, task.device), task.labelled, self.config.l2)
        network = Network(task.tower, probe.head()).to(task.device)
        start = copied(network)
        self._train(network, task)
        end = copied(network)
        scores = []
        for alpha in sorted({0.0, *self.config.ensemble, 1.0}):
            network.load_state_dict(interpolate(start, end, alpha))
            scores += _scores(network, task, alpha)
        return Learned(tuple(scores), end)

    def _train(self, network: Network, task: Task) -> None:
        c, classifier = self.config, Classifier(network)
        optimizer = with_layer_decay(classifier, c.optimizer, c.layer_decay)
        train_epochs(classifier, optimizer, partial(self._batch, task), task, c.epochs, c.batch)

    def _batch(self, task: Task, some: Tensor, keys: Tensor) -> Batch:
        labelled = task.labelled
        stored = torch.from_numpy(np.ascontiguousarray(labelled.reference.images[some.numpy()]))
        mine = keys.to(task.device)
        image = normalise(self._augment(pixels(stored.to(task.device)), mine, _AUGMENTATION))
        label = labelled.reference_labels[some].to(task.device)
        return Batch(some, mine, {"image": image, "label": label})


def _scores(network: Network, task: Task, alpha: float) -> list[Score]:
    stage = stage_of(alpha)
    scores = []
    for name, labelled in task.sets.items():
        logits = outputs(network, labelled.test.images, task.device)
        shares, places = logits.softmax(1).topk(min(SHOWN, logits.shape[1]), dim=1)
        # Pictures of the model that is kept: of all of them the report would be too large.
        rows = named_rows(labelled, shares, places, ROWS if alpha == 1 else 0)
        outcome = labelled_outcome(labelled, places[:, 0] == labelled.test_labels, rows)
        scores.append(Score(stage=stage, alpha=alpha, dataset=name, outcome=outcome))
    return scores
