"""Schedules: pure functions of the number of samples."""

from __future__ import annotations

import math

from trainers.core.engine import OptimizerConfig


def learning_rate(config: OptimizerConfig, samples: int, total: int) -> float:
    """Linear warm-up, then half a cosine (Loshchilov and Hutter, 2017, arXiv:1608.03983).

    Args:
        config: Peak, final share and warm-up.
        samples: Samples seen once the step is done.
        total: Length of the run in samples.
    """
    if samples < config.warmup:
        return config.learning_rate * samples / config.warmup
    span = max(1, total - config.warmup)
    done = min(1.0, (samples - config.warmup) / span)
    share = config.final_rate + (1 - config.final_rate) * 0.5 * (1 + math.cos(math.pi * done))
    return config.learning_rate * share


def commits_after(step: int, batch: int, every: int, steps: int) -> bool:
    """Whether a checkpoint is due once ``step`` steps are done.

    Args:
        step: Steps done.
        batch: Samples of a step.
        every: Samples between checkpoints.
        steps: Length of the run in steps; its end is always committed.
    """
    return step == steps or (step * batch) // every > ((step - 1) * batch) // every
