"""A step in parts: loss and gradient are those of a whole batch, activations those of one part.

A loss that is a mean over samples is the mean of its parts' losses. One that compares samples is
not, so its gradient takes two passes through the encoders (GradCache, Gao et al., 2021,
arXiv:2101.06983): all rows but the last part's are encoded without a graph, the loss of all rows
is passed back to them, and each part is then encoded again and passed back from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pipelines.core.batch import Batch
from trainers.core.objective import ComparingObjective, LossOutput, Objective, Rows
from trainers.core.phases import Phases
from trainers.losses.precision import wide


@dataclass(frozen=True)
class Passes:
    """How an engine makes the passes of a step.

    Attributes:
        phases: Where their time is counted.
        forward: Calls what it is given in the way that the engine calls its objective.
        backward: Adds the gradient of a loss, times ``scale``, to the step's.
        scale: Of losses.
    """

    phases: Phases
    forward: Callable[[Callable[[], Any]], Any]
    backward: Callable[[Tensor], None]
    scale: float = 1.0


def accumulate(objective: Objective, batch: Batch, count: int, passes: Passes) -> LossOutput:
    """Make the forward and backward passes of a step, in parts of equal size.

    Args:
        objective: What is trained.
        batch: One worker's share of a global batch.
        count: Of parts.
        passes: The engine's.

    Returns:
        Loss and metrics of the whole batch, without a graph.

    Raises:
        ValueError: The batch cannot be cut into so many equal parts.
    """
    parts = batch.split(count)
    if count > 1 and isinstance(objective, ComparingObjective):
        return _compared(objective, batch, parts, passes)
    return _averaged(objective, parts, passes)


def _averaged(objective: Objective, parts: Sequence[Batch], passes: Passes) -> LossOutput:
    outputs = []
    for part in parts:
        with passes.phases("forward"):
            output: LossOutput = passes.forward(partial(objective, part))
        with passes.phases("backward"):
            passes.backward(output.loss / len(parts))
        outputs.append(LossOutput(output.loss.detach(), output.metrics))
    metrics = {name: _mean(o.metrics[name] for o in outputs) for name in outputs[0].metrics}
    return LossOutput(_mean(o.loss for o in outputs), metrics)


def _compared(
    objective: ComparingObjective, batch: Batch, parts: Sequence[Batch], passes: Passes
) -> LossOutput:
    *others, last = parts
    with passes.phases("forward"):
        with torch.no_grad():
            held: list[Rows] = [passes.forward(partial(objective.rows, part)) for part in others]
        output: LossOutput = passes.forward(partial(_compare, objective, batch, last, held))
    with passes.phases("backward"):
        passes.backward(output.loss)
    output = LossOutput(output.loss.detach(), output.metrics)
    for part, rows in zip(others, held, strict=True):
        # In single precision: without its scale a gradient may be too small for another format.
        asked = {n: wide(v.grad) / passes.scale for n, v in rows.items() if v.grad is not None}
        with passes.phases("forward"):
            product: Tensor = passes.forward(partial(_product, objective, part, asked))
        with passes.phases("backward"):
            passes.backward(product)
    return output


def _compare(
    objective: ComparingObjective, batch: Batch, last: Batch, held: Sequence[Rows]
) -> LossOutput:
    """The loss of all rows: the last part's with a graph, the others as its leaves."""
    live = objective.rows(last)
    for rows in held:
        for name, value in live.items():
            rows[name].requires_grad_(value.requires_grad)
    every = [*held, live]
    joined = {name: torch.cat([rows[name] for rows in every]) for name in live}
    return objective.compare(joined, batch)


def _product(objective: ComparingObjective, part: Batch, asked: Mapping[str, Tensor]) -> Tensor:
    """Encode again; the gradient of what is returned is what the loss asks of these rows."""
    encoded = objective.encode(part)
    products = [(wide(encoded[name]) * gradient).sum() for name, gradient in asked.items()]
    return torch.stack(products).sum()


def _mean(values: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean()
