"""A trained objective at its own task, without training."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pyarrow as pa
import pyarrow.compute as pc
import torch

from pipelines.core import DataError, UserError
from pipelines.core.batch import Batch
from trainers.core.evaluation import Answers
from trainers.core.objective import Objective
from trainers.neighbours import finite


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
        DataError: There is none that it could classify.
        UserError: It draws no labels, or its outputs are not finite.
    """
    right = examples = samples = 0
    chance = 0.0
    for table in tables:
        # What stands in for an unreadable sample would count twice.
        readable = table.filter(pc.equal(table["fault"], ""))
        if not readable.num_rows:
            continue
        output = objective(build(readable))
        finite(output.loss)
        metrics = {name: float(value) for name, value in output.metrics.items()}
        guessed = metrics.get("chance", objective.chance)
        if guessed is None:
            raise UserError(
                "this objective draws no labels to classify, so it has no proxy accuracy; "
                "use another evaluation (eagleray list evaluations)"
            )
        # These metrics are means over the batch: times its size they are whole numbers.
        usable = round(metrics.get("usable", 1.0) * readable.num_rows)
        judged = round(metrics["answers"] * readable.num_rows) if "answers" in metrics else usable
        right += round(metrics["accuracy"] * judged)
        chance += guessed * judged
        examples, samples = examples + judged, samples + usable
    if not examples:
        raise DataError("no sample can be judged; check the data with 'eagleray inspect'")
    return Answers(right, examples, chance / examples, samples)
