from __future__ import annotations

import pytest
import torch

from pipelines.core.batch import Batch
from tests.trainers.two_workers import assert_two_equal_one
from trainers.core.objective import Surroundings
from trainers.objectives.clip_contrast import ClipContrast


def test_two_workers_are_one() -> None:
    assert_two_equal_one("clip_contrast")


def test_both_clips_of_a_film_answer_and_chance_is_one_of_the_others() -> None:
    around = Surroundings(size=16, frames=8, frame_size=16, frame_rate=8.0)
    objective = ClipContrast(ClipContrast.Config(frames=2), around)
    rows = {"a": torch.eye(6), "b": torch.eye(6)[[0, 1, 2, 3, 5, 4]]}
    batch = Batch(torch.arange(6), torch.arange(6), {})
    metrics = objective.compare(rows, batch).metrics
    assert metrics["accuracy"] == pytest.approx(4 / 6)
    assert metrics["answers"] == 2
    assert metrics["chance"] == pytest.approx(1 / 11)
