"""What a film shorter than its clip tells of the answer: nothing."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from pipelines.core.batch import Batch
from pipelines.views import ViewBuilder
from tests.trainers.conftest import AROUND
from trainers.core.objective import Objective
from trainers.objectives import OBJECTIVES

DECODED, SIZE, COUNT = AROUND.frames, AROUND.frame_size, 400
TASKS = [
    ("arrow_of_time", {"frames": 4}),
    ("pace", {"frames": 3, "rates": (1, 2)}),
    ("odd_one_out", {"frames": 3, "pieces": 2}),
    ("frame_order", {"frames": 3, "stride": 1}),
]


def films(frames: int) -> pa.Table:
    """Frames of noise, the last one repeated, as they are decoded."""
    shown = np.arange(DECODED).clip(max=frames - 1)
    random = np.random.default_rng(0)
    video = random.integers(0, 256, (COUNT, DECODED, SIZE * SIZE * 3), np.uint8)[:, shown]
    times = np.broadcast_to(shown.astype(np.float32), (COUNT, DECODED))
    return pa.table(
        {
            "epoch": pa.array([0] * COUNT, pa.int64()),
            "sample": pa.array(range(COUNT), pa.int64()),
            "video": _lists(video),
            "video.times": _lists(times),
        }
    )


def _lists(rows: np.ndarray) -> pa.Array:
    flat = pa.array(rows.reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, rows[0].size)


def batch_of(objective: Objective, frames: int) -> Batch:
    build = ViewBuilder(objective.views, 0, None, None, torch.device("cpu"))
    return build(films(frames))


def still_steps(clips: Tensor) -> Tensor:
    """Where a frame is followed by the same one, whatever was drawn for it. [B, T - 1] bool."""
    return (clips[:, 1:] - clips[:, :-1]).abs().mean((2, 3, 4)) < 0.05


@pytest.mark.parametrize(("kind", "changes"), TASKS)
@pytest.mark.parametrize("frames", [1, 3, 5, DECODED - 1, DECODED])
def test_either_all_of_a_clip_moves_or_nothing_does(
    kind: str, changes: dict[str, object], frames: int
) -> None:
    plain = {"augmentation": {"kind": "none"}, "guard": {"kind": "none"}}
    objective = OBJECTIVES.build(OBJECTIVES.parse({"kind": kind, **changes, **plain}), AROUND)
    still = still_steps(batch_of(objective, frames).views["clip"])
    assert torch.equal(still, still[:, :1].expand_as(still))
    assert len({tuple(row) for row in still.tolist()}) == 1  # whatever was drawn
    assert bool(still.all()) == _too_short(objective, frames)


def _too_short(objective: Objective, frames: int) -> bool:
    view = objective.views["clip"]
    return frames < 1 + max(view.strides) * (view.frames - 1)
