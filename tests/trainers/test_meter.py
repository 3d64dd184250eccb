from __future__ import annotations

import time

import pyarrow as pa
import pytest
import torch

from trainers.core.engine import OptimizerConfig, StepOutput
from trainers.core.objective import LossOutput, Surroundings
from trainers.meter import Clock, Meter, NotFinite
from trainers.objectives.rotation import Rotation
from trainers.torch_engine import TorchEngine


def meter(clock: Clock) -> Meter:
    objective = Rotation(Rotation.Config(), Surroundings(size=16))
    engine = TorchEngine(objective, OptimizerConfig(), torch.device("cpu"))
    return Meter(engine, clock, batch=10, epoch=40)


def step(loss: float, found: float) -> StepOutput:
    output = LossOutput(torch.tensor(loss), {"accuracy": torch.tensor(found)})
    return StepOutput(output, torch.tensor(2.0))


def tables() -> object:
    return iter([pa.table({"fault": [""]})] * 5)


def test_a_line_is_the_mean_of_its_steps() -> None:
    made = meter(Clock())
    made.fetch(tables())  # type: ignore[arg-type]
    made.add(1, step(1.0, 0.0))
    made.add(2, step(3.0, 0.5))
    line = made.line(step=2, rate=0.1)
    assert line["loss"] == 2.0
    assert line["accuracy"] == 0.25
    assert line["grad_norm"] == 2.0
    assert line["epoch"] == 0.5
    made.add(3, step(7.0, 1.0))
    assert made.line(step=3, rate=0.1)["loss"] == 7.0  # the earlier steps are gone


def test_before_the_first_batch_no_training_time_passes() -> None:
    clock = Clock(train=5.0)
    made = meter(clock)
    time.sleep(0.05)
    assert made.now().train == 5.0
    made.fetch(tables())  # type: ignore[arg-type]
    time.sleep(0.05)
    assert made.now().train >= 5.05


def test_a_commit_counts_as_training_time_but_not_in_the_rate() -> None:
    clock = Clock()
    made = meter(clock)
    made.fetch(tables())  # type: ignore[arg-type]
    made.add(1, step(1.0, 1.0))
    time.sleep(0.3)
    made.paused(0.3, 0.1)
    line = made.line(1, 0.1)
    assert (clock.commit, clock.evaluation) == (0.3, 0.1)
    assert line["samples_per_second"] > 10 / 0.2
    assert made.now().train >= 0.3


@pytest.mark.parametrize(
    ("loss", "norm"), [(float("nan"), 1.0), (float("inf"), 1.0), (1.0, float("nan"))]
)
def test_the_first_step_that_is_not_finite_is_told(loss: float, norm: float) -> None:
    made = meter(Clock())
    made.fetch(tables())  # type: ignore[arg-type]
    made.add(3, step(1.0, 1.0))
    made.add(4, StepOutput(step(loss, 1.0).output, torch.tensor(norm)))
    made.add(5, step(float("nan"), 1.0))
    with pytest.raises(NotFinite, match="not finite at 40 samples") as caught:
        made.line(5, 0.1)
    assert caught.value.step == 4


def test_it_is_empty_until_a_step_and_after_a_line() -> None:
    made = meter(Clock())
    made.fetch(tables())  # type: ignore[arg-type]
    assert made.empty
    made.add(1, step(1.0, 1.0))
    assert not made.empty
    made.line(1, 0.1)
    assert made.empty


def test_a_clock_of_another_version_is_read_as_far_as_it_is_known() -> None:
    assert Clock.of({"train": 2.0, "commit": 1.0, "of a later version": 3.0}) == Clock(
        2.0, commit=1.0
    )
