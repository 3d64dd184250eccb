"""The task of training, on data that was held out."""

from __future__ import annotations

import torch
from pydantic import Field

from pipelines import core
from trainers.core.evaluation import Encoders, Load, Outcome
from trainers.labels import AnySource, Name
from trainers.statistics import bootstrap_interval


class Proxy:
    """How well is the training task itself solved on held-out data?

    For objectives that classify a label which they draw themselves, such as the
    rotation of an image or the direction of a clip, or a token of a text. Samples
    are decoded and augmented as the recipe says, each sample once, and the random choices
    follow from the seed. Where samples are compared, that is among as many as the recipe's
    global batch times its repeats. Unreadable samples are left out, if they are 1 % at most.
    Where a sample gives several answers, the interval is as wide as if all of
    them were right or wrong together.
    """

    class Config(core.Config):
        """The data, and how much of it.

        Attributes:
            name: Of the data set, for tables.
            data: Any source, or a URL pattern of tars.
            samples: How many; all where there are fewer.
            seed: Of the order of samples, of augmentation and of the labels.
        """

        name: Name
        data: AnySource
        samples: int = Field(default=2048, ge=1)
        seed: int = Field(default=0, ge=0)

    def __init__(self, config: Config):
        self.config = config

    def run(self, model: Encoders, load: Load) -> Outcome:
        """Measure a model.

        Raises:
            UserError: The objective draws no labels, or the data lack what it needs.
        """
        del load  # whole films would not fit into memory
        found = model.proxy(self.config.data, self.config.samples, self.config.seed)
        accuracy = found.right / found.examples
        # The interval depends on how many are right and not on which.
        right = torch.arange(found.samples) < round(accuracy * found.samples)
        return Outcome(
            metrics={"accuracy": accuracy},
            headline="accuracy",
            chance=found.chance,
            examples=found.samples,
            interval=bootstrap_interval(right),
        )
