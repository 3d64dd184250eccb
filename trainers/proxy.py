"""A trained objective at its own task, without training."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pyarrow as pa
import pyarrow.compute as pc
import torch

from pipelines.core import DataError
from pipelines.core.batch import Batch
from trainers.core.objective import Objective
from trainers.neighbours import finite


@torch.inference_mode()
def judge(
    objective: Objective, build: Callable[[pa.Table], Batch], tables: Iterable[pa.Table]
) -> tuple[int, int]:
    """Count an objective's right answers.

    Args:
        objective: In evaluation mode, with a metric ``accuracy``.
        build: Turns a table into views.
        tables: One a batch.

    Returns:
        How many samples it classified right, and how many it classified.

    Raises:
        DataError: There is none that it could classify.
        UserError: Its outputs are not finite.
    """
    right = examples = 0
    for table in tables:
        # What stands in for an unreadable sample would count twice.
        readable = table.filter(pc.equal(table["fault"], ""))
        if not readable.num_rows:
            continue
        output = objective(build(readable))
        finite(output.loss)
        metrics = {name: float(value) for name, value in output.metrics.items()}
        # Both metrics are means over the batch: times its size they are whole numbers.
        judged = round(metrics.get("usable", 1.0) * readable.num_rows)
        right += round(metrics["accuracy"] * judged)
        examples += judged
    if not examples:
        raise DataError("no sample can be judged; check the data with 'eagleray inspect'")
    return right, examples
