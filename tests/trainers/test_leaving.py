from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.trainers.test_loop import Line
from trainers.core.engine import OptimizerConfig
from trainers.leaving import Leaving
from trainers.torch_engine import TorchEngine


class Group(TorchEngine):
    """One worker of two: the mean is of its own value and of the other's."""

    def __init__(self, others: list[float]):
        super().__init__(Line(), OptimizerConfig(), torch.device("cpu"))
        self._others = iter(others)

    def mean(self, values: Tensor) -> Tensor:
        return (values + next(self._others)) / 2


@pytest.mark.parametrize(
    ("mine", "other", "expected"),
    [
        ([False] * 5, [0.0] * 5, [False] * 5),
        ([False, True, True, True], [0.0] * 4, [False, False, True, True]),
        ([False] * 4, [0.0, 1.0, 1.0, 1.0], [False, False, True, True]),
        ([True, True], [1.0, 1.0], [False, True]),
    ],
)
def test_whoever_is_asked_all_leave_after_the_step_that_follows(
    mine: list[bool], other: list[float], expected: list[bool]
) -> None:
    asked = iter(mine)
    leaving = Leaving(Group(other), lambda: next(asked))
    assert [leaving.agreed() for _ in mine] == expected
