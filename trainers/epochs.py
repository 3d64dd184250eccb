"""Epochs over labelled pictures: the loop of modes that train a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from pipelines.core import ConfigError, UserError
from pipelines.core.batch import Batch
from pipelines.core.randomness import sample_keys, uniform
from trainers.classifier import Classifier
from trainers.core.engine import OptimizerConfig
from trainers.finetune_task import Task
from trainers.schedule import learning_rate
from trainers.torch_engine import TorchEngine

_ORDER = 1  # stream of random numbers

Build = Callable[[Tensor, Tensor], Batch]
"""Makes a batch of some examples: their numbers [B] int64, and their random keys [B] int64."""


def shuffled(seed: int, epoch: int, count: int, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut an epoch's examples into steps of equally many, to within one.

    Yields:
        Numbers of examples and their keys. [B] int64 each
    """
    numbers = torch.arange(count)
    keys = sample_keys(seed, torch.full_like(numbers, epoch), numbers)
    order = uniform(keys, _ORDER, 1)[:, 0].argsort(stable=True)
    for some in order.tensor_split(steps):
        yield some, keys[some]


def train_epochs(
    classifier: Classifier,
    optimizer: OptimizerConfig,
    build: Build,
    task: Task,
    epochs: int,
    batch: int,
) -> None:
    """Train a classifier in place, on all that is labelled.

    Args:
        classifier: Those of its parameters learn that have a gradient.
        optimizer: Its rates and schedule; the warm-up counts pictures.
        build: Makes a batch.
        task: What is labelled, the seed, where to compute and whom to tell of progress.
        epochs: Passes over the pictures.
        batch: Pictures of a step, at most.

    Raises:
        ConfigError: The warm-up is over half of the training, or that is one step at a rate of 0.
        UserError: The loss is not finite.
    """
    count = len(task.labelled.reference)
    total, steps, seen = epochs * count, -(-count // batch), 0
    if 2 * optimizer.warmup > total:
        raise ConfigError(
            f"mode.optimizer.warmup: {optimizer.warmup} of {total} pictures in all epochs, over "
            "half of them; lower it, or train for more epochs"
        )
    if epochs * steps == 1 and not optimizer.final_rate:
        raise ConfigError(
            f"{count} pictures in one step, at the rate that is left at the end, 0, would change "
            "nothing; train for more epochs, or lower mode.batch"
        )
    engine = TorchEngine(classifier, optimizer, task.device)
    for epoch in range(epochs):
        losses = []
        for step, some in enumerate(shuffled(task.seed, epoch, count, steps), 1):
            classifier.train()
            seen += len(some[0])
            rate = learning_rate(optimizer, seen, total)
            losses.append(engine.step(build(*some), rate).output.loss.detach())
            task.progress(epoch * steps + step, epochs * steps)
        if not bool(torch.stack(losses).isfinite().all()):
            raise UserError(
                f"the loss is not finite in epoch {epoch + 1}; lower "
                "mode.optimizer.learning_rate, or add a warm-up"
            )
    classifier.load_state_dict(engine.weights())
