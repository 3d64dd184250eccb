"""Statistics of right and wrong answers. N examples."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_RESAMPLES, _SEED = 2000, 0
_TAILS = (0.025, 0.975)


def share(right: Tensor) -> float:
    """Share of right answers.

    Args:
        right: [N] bool, N > 0.
    """
    return int(right.sum()) / len(right)


def bootstrap_interval(right: Tensor) -> tuple[float, float]:
    """Percentile bootstrap 95 % interval of the share of right answers (Efron, 1979).

    The same answers always give the same interval. Where all answers are
    equal, all resamples are: the interval is then the exact one of Clopper and
    Pearson (1934), which says what so few examples can tell.

    Args:
        right: [N] bool, N > 0.

    Returns:
        Low and high end, in [0, 1].
    """
    many = len(right)
    if share(right) in (0.0, 1.0):
        end = _TAILS[0] ** (1 / many)
        return (end, 1.0) if right[0] else (0.0, 1 - end)
    # N draws with replacement from N zeros and ones have a binomial number of
    # ones, so one draw of it stands for a whole resample, exactly.
    counts = np.random.default_rng(_SEED).binomial(many, share(right), _RESAMPLES)
    low, high = np.quantile(counts / many, _TAILS)
    return float(low), float(high)


def balanced_accuracy(right: Tensor, labels: Tensor) -> float:
    """Mean over classes of the share of right answers in a class.

    Args:
        right: [N] bool, N > 0.
        labels: True classes, from 0; a number that does not occur is no class. [N] int64
    """
    total = torch.bincount(labels)
    hits = torch.bincount(labels[right], minlength=len(total))
    present = total > 0
    return float((hits[present].double() / total[present].double()).mean())
