"""Knowing without labels whether features are worth anything: spread, rank, alignment, uniformity.

N samples, D dimensions.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from pipelines.core import Config, UserError
from pipelines.core.batch import Batch
from pipelines.views import AudioView, ClipView, ImageView, TextView, View
from trainers.core.collective import world
from trainers.core.objective import Objective
from trainers.losses.gather import gather

_KINDS: tuple[tuple[str, type[View]], ...] = (
    ("image", ImageView),
    ("video", ClipView),
    ("audio", AudioView),
    ("text", TextView),
    ("image", ClipView),  # a clip's first frame
)


class CollapseConfig(Config):
    """How features are watched while they are learned.

    Attributes:
        every: Steps between two looks; 0 for none.
        samples: How many are looked at, over all workers.
        spread: Below it features count as one point: see ``spread``.
        rank: Below it features count as lying in too few dimensions: see ``effective_rank``.
            Where few are looked at, half of what they could span takes its place.
        stop: Whether a run whose features have collapsed ends with an error; else it
            goes on, and the log, the metrics and the report say so.
    """

    every: int = Field(default=100, ge=0)
    samples: int = Field(default=256, ge=2)
    spread: float = 0.01
    rank: float = 2.0
    stop: bool = False


class Collapsed(UserError):
    """The features of a run are worth nothing any more."""


def spread(features: Tensor) -> Tensor:
    """Standard deviation of unit features over samples, by sqrt(D), averaged over dimensions.

    1 where they lie evenly on the sphere, 0 where they are one point (SimSiam: Chen and
    He, 2021, arXiv:2011.10566). [N, D] -> []
    """
    unit = F.normalize(features, dim=1)
    return unit.std(0, unbiased=False).mean() * math.sqrt(features.shape[1])


def effective_rank(features: Tensor) -> Tensor:
    """Exponential of the entropy of the singular values of unit features around their mean.

    At most min(N - 1, D); 0 where all are equal (Roy and Vetterli, 2007; RankMe: Garrido
    et al., 2023, arXiv:2210.02885, where the mean is left in). [N, D] -> []
    """
    unit = F.normalize(features, dim=1)
    values = torch.linalg.svdvals(unit - unit.mean(0))
    total = values.sum()
    if total < 1e-6 * len(unit):
        return torch.zeros_like(total)
    shares = values / total
    rank: Tensor = torch.special.entr(shares).sum().exp()
    return rank


def alignment(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared distance of the unit features of two views of a sample. [N, D] x 2 -> [].

    Wang and Isola, 2020, arXiv:2005.10242.
    """
    return (F.normalize(first, dim=1) - F.normalize(second, dim=1)).pow(2).sum(1).mean()


def uniformity(features: Tensor) -> Tensor:
    """Logarithm of the mean Gaussian potential of pairs; lower is more even. [N, D] -> [].

    Wang and Isola, 2020, arXiv:2005.10242.
    """
    return torch.pdist(F.normalize(features, dim=1)).pow(2).mul(-2).exp().mean().log()


def fault(found: dict[str, float], config: CollapseConfig, rows: int) -> str:
    """Why features count as collapsed; empty where they do not.

    Args:
        found: ``feature_spread`` and ``feature_rank``.
        config: What counts as collapsed.
        rows: How many features were looked at: their rank is at most one less.
    """
    if found["feature_spread"] < config.spread:
        return f"all features are one point (spread {found['feature_spread']:.2g})"
    if found["feature_rank"] < min(config.rank, (rows - 1) / 2):
        return f"features lie in {found['feature_rank']:.1f} dimensions"
    return ""


class FeatureWatch:
    """Looks at an objective's features every now and then; every worker calls it alike.

    Args:
        objective: What is trained.
        config: How often, at how many, and what counts as collapsed.
    """

    def __init__(self, objective: Objective, config: CollapseConfig):
        self._objective, self._config = objective, config
        self._name, self._views, self._frame = _watched(objective)

    def __call__(self, step: int, batch: Batch) -> dict[str, float]:
        """Look, if it is time.

        Returns:
            ``feature_spread``, ``feature_rank``, ``uniformity``, ``alignment`` where there are
            two views, and ``collapsed`` (0 or 1); nothing where it is not time.

        Raises:
            Collapsed: They have, and the run is to stop; all workers raise it alike.
        """
        config = self._config
        if not config.every or step % config.every or not self._views:
            return {}
        measured = self._measure(batch)
        if measured is None:
            return {}
        found, rows = measured
        why = fault(found, config, rows)
        if why and config.stop:
            raise Collapsed(
                f"{why} at step {step}; lower optimizer.learning_rate, or change the objective's "
                "settings, and begin anew in another --out"
            )
        return {**found, "collapsed": float(bool(why))}

    @torch.no_grad()
    def _measure(self, batch: Batch) -> tuple[dict[str, float], int] | None:
        """What the features are like, and of how many; None of a model that has diverged."""
        encoder = self._objective.encoders()[self._name]
        training = encoder.training
        encoder.eval()
        # The same number on every worker, so that their rows can be put together.
        count = max(1, min(self._config.samples // world()[1], len(batch)))
        inputs = [batch.views[view][:count] for view in self._views]
        frames = [clip[:, 0] for clip in inputs] if self._frame else inputs
        views = [gather(encoder(each).float()) for each in frames]
        encoder.train(training)
        first = views[0]
        # The loss is not finite either, which ends the attempt; a decomposition would raise here.
        if not all(bool(view.isfinite().all()) for view in views):
            return None
        found = {
            "feature_spread": spread(first),
            "feature_rank": effective_rank(first),
            "uniformity": uniformity(first),
        }
        if len(views) > 1:
            found["alignment"] = alignment(*views)
        return {name: float(value) for name, value in found.items()}, len(first)


def _watched(objective: Objective) -> tuple[str, list[str], bool]:
    """An encoder, up to two views that go through it, and whether one frame of each does."""
    encoders = objective.encoders()
    for name, kind in _KINDS:
        views = [view for view, spec in objective.views.items() if isinstance(spec, kind)]
        if name in encoders and views:
            return name, views[:2], name == "image" and kind is ClipView
    return "", [], False
