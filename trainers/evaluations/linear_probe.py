"""A linear classifier on frozen features. N test, M reference pictures, C classes, D dimensions."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from trainers.core.evaluation import Encoders, Load, Outcome
from trainers.gallery import SHOWN, named_rows
from trainers.labels import (
    Labelled,
    LabelledConfig,
    hash_order,
    labelled_outcome,
    load_labelled,
)
from trainers.neighbours import finite

_ITERATIONS = 200
_TOGETHER = 4096  # rows classified at once

Candidates = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]
"""L2 weights to choose from."""


class LinearProbe:
    """Are the labels linearly separable? Multinomial logistic regression on frozen features.

    Features are standardised by the reference's mean and deviation, and fitted
    by L-BFGS over all of them in double precision (8 M (C + D) bytes), as in
    Kornblith et al., 2019, arXiv:1805.08974. The L2 weight is the one that is
    best on a tenth of the reference, held out by the hash of its keys, of equals
    the strongest; the fit is then made again on all of it. Test data choose
    nothing. The metrics and the guesser are those of ``knn``.
    """

    class Config(LabelledConfig):
        """The data and the L2 weights to choose from.

        Attributes:
            l2: Candidates; the loss is the mean cross-entropy + l2 / 2 |weights|^2.
        """

        l2: Candidates = (1e-1, 1e-2, 1e-3, 1e-4)

    def __init__(self, config: Config):
        self.config = config

    def run(self, model: Encoders, load: Load) -> Outcome:
        """Measure a model.

        Raises:
            UserError: Data or labels are missing, or the reference has one class only.
        """
        labelled = load_labelled(load, self.config)
        probe = learn(model.features(labelled.reference.images), labelled, self.config.l2)
        scores, places = probe.classify(model.features(labelled.test.images), SHOWN)  # [N, 5]
        right = places[:, 0] == labelled.test_labels
        gallery = named_rows(labelled, scores, places, self.config.gallery)
        return labelled_outcome(labelled, right, gallery)


class Probe(NamedTuple):
    """A fitted classifier.

    Attributes:
        mean: Of the reference's features. [D] float64
        scale: Their deviation, 1 where they are constant. [D] float64
        weights: Bias and weights of standardised features. [1 + D, C] float64
    """

    mean: Tensor
    scale: Tensor
    weights: Tensor

    def classify(self, features: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Find the likeliest classes.

        Args:
            features: [N, D]
            k: How many; K = min(k, C).

        Returns:
            Shares [N, K] and classes [N, K] int64, on the CPU, the likeliest first.

        Raises:
            UserError: A feature is not finite.
        """
        found = [
            _classify((part - self.mean) / self.scale, self.weights, k)
            for part in torch.split(finite(features).cpu(), _TOGETHER)
        ]
        return torch.cat([values for values, _ in found]), torch.cat([c for _, c in found])

    def head(self) -> dict[str, Tensor]:
        """The same as tensors to keep: logits are ``(features - mean) / scale`` through ``head``.

        Returns:
            ``mean`` and ``scale`` [D], ``head.weight`` [C, D], ``head.bias`` [C]; float32.
        """
        head = {"mean": self.mean, "scale": self.scale}
        head |= {"head.weight": self.weights[1:].T, "head.bias": self.weights[0]}
        return {name: value.float().contiguous() for name, value in head.items()}


def learn(features: Tensor, labelled: Labelled, candidates: tuple[float, ...]) -> Probe:
    """Fit a probe, with the L2 weight that is best on a held-out tenth.

    Args:
        features: Of the reference. [M, D]
        labelled: Its labels and keys.
        candidates: L2 weights.

    Raises:
        UserError: A feature is not finite.
    """
    features = finite(features).to("cpu", torch.float64)
    mean, scale = _moments(features)
    features = (features - mean) / scale
    labels, classes = labelled.reference_labels, labelled.known
    order = torch.tensor(hash_order(labelled.reference.keys))
    held, rest = order.tensor_split([-(-len(order) // 10)])
    tried: list[tuple[int, float, Tensor]] = []
    for l2 in sorted(candidates, reverse=True):
        # From the strongest on, each fit starts near its solution.
        start = tried[-1][2] if tried else None
        weights = fit(features[rest], labels[rest], classes, l2, start)
        answers = _classify(features[held], weights, 1)[1][:, 0]
        tried.append((int((answers == labels[held]).sum()), l2, weights))
    _, l2, weights = max(tried, key=lambda attempt: attempt[0])  # of equals the strongest
    return Probe(mean, scale, fit(features, labels, classes, l2, weights))


def fit(
    features: Tensor, labels: Tensor, classes: int, l2: float, start: Tensor | None = None
) -> Tensor:
    """Minimise the mean cross-entropy + l2 / 2 |weights|^2; the bias is not penalised.

    Args:
        features: [M, D] float64
        labels: [M] int64
        classes: C.
        l2: Above 0, so that there is one minimum.
        start: Where to begin; default: zeros.

    Returns:
        Bias and weights. [1 + D, C]
    """
    size = (1 + features.shape[1], classes)
    weights = torch.zeros(size, dtype=features.dtype) if start is None else start.clone()
    weights.requires_grad_()
    optimizer: torch.optim.Optimizer = torch.optim.LBFGS(
        [weights],
        max_iter=_ITERATIONS,
        tolerance_grad=1e-6,
        tolerance_change=1e-6,  # far below what changes an answer
        history_size=30,
        line_search_fn="strong_wolfe",
    )

    def loss() -> float:
        optimizer.zero_grad()
        value = F.cross_entropy(_logits(features, weights), labels)
        value = value + l2 / 2 * weights[1:].square().sum()
        torch.autograd.backward(value)
        return value.item()

    optimizer.step(loss)
    return weights.detach()


def _logits(features: Tensor, weights: Tensor) -> Tensor:
    return torch.addmm(weights[0], features, weights[1:])


def _classify(features: Tensor, weights: Tensor, k: int) -> tuple[Tensor, Tensor]:
    shares = _logits(features, weights).softmax(1)
    values, classes = shares.topk(min(k, shares.shape[1]), dim=1)
    return values, classes


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    mean, deviation = features.mean(0), features.std(0, correction=0)
    # What varies less than float32 resolves is rounding, not a feature.
    constant = deviation <= 1e-6 * mean.abs()
    return mean, deviation.masked_fill(constant, 1.0)
