"""A trained objective at its own task, without training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pyarrow as pa
import torch

from pipelines.core import DataError, UserError
from pipelines.core.batch import Batch
from trainers.core.evaluation import Answers
from trainers.core.objective import ComparingObjective, LossOutput, Objective
from trainers.left_out import readable
from trainers.neighbours import finite

MOST = 256
"""Samples of which a model holds activations at once, as far as that changes no answer."""


@torch.inference_mode()
def judge(
    objective: Objective, build: Callable[[pa.Table], Batch], tables: Iterable[pa.Table]
) -> Answers:
    """Count an objective's right answers.

    Args:
        objective: In evaluation mode, with a metric ``accuracy``.
        build: Turns a table into views.
        tables: One a batch.

    Returns:
        Its answers to all samples that it can judge; where chance depends on the batch, the
        mean over answers.

    Raises:
        DataError: There is none that it could classify, or over 1 % are unreadable.
        UserError: It draws no labels, or its outputs are not finite.
    """
    right = examples = samples = 0
    chance = 0.0
    for table in readable(tables):
        output = _answered(objective, build, table)
        finite(output.loss)
        metrics = {name: float(value) for name, value in output.metrics.items()}
        guessed = metrics.get("chance", objective.chance)
        if guessed is None:
            raise UserError(
                "this objective draws no labels to classify, so it has no proxy accuracy; "
                "use another evaluation (eagleray list evaluations)"
            )
        # These metrics are means over the batch: times its size they are whole numbers.
        usable = round(metrics.get("usable", 1.0) * table.num_rows)
        judged = round(metrics["answers"] * table.num_rows) if "answers" in metrics else usable
        right += round(metrics["accuracy"] * judged)
        chance += guessed * judged
        examples, samples = examples + judged, samples + usable
    if not examples:
        raise DataError("no sample can be judged; check the data with 'eagleray inspect'")
    return Answers(right, examples, chance / examples, samples)


def _answered(
    objective: Objective, build: Callable[[pa.Table], Batch], table: pa.Table
) -> LossOutput:
    """What an objective makes of a batch; what compares samples encodes them in parts.

    In training they are spread over workers, and over parts of a step.
    """
    if not isinstance(objective, ComparingObjective):
        output: LossOutput = objective(build(table))
        return output
    parts, encoded = [], []
    for start in range(0, table.num_rows, MOST):
        parts.append(build(table.slice(start, MOST)))
        encoded.append(objective.rows(parts[-1]))
    rows = {name: torch.cat([part[name] for part in encoded]) for name in encoded[0]}
    return objective.compare(rows, _joined(parts))


def _joined(parts: Sequence[Batch]) -> Batch:
    """One batch of all samples, in order."""
    return Batch(
        torch.cat([part.samples for part in parts]),
        torch.cat([part.keys for part in parts]),
        {name: torch.cat([part.views[name] for part in parts]) for name in parts[0].views},
    )
