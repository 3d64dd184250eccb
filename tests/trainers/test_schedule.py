from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.core.engine import OptimizerConfig
from trainers.schedule import commits_after, learning_rate


@pytest.mark.parametrize(
    ("samples", "expected"),
    [(0, 0.0), (50, 0.5), (100, 1.0), (600, 0.55), (1100, 0.1)],
)
def test_warm_up_then_half_a_cosine(samples: int, expected: float) -> None:
    config = OptimizerConfig(learning_rate=1.0, final_rate=0.1, warmup=100)
    assert learning_rate(config, samples, 1100) == pytest.approx(expected)


@given(st.integers(1, 10_000), st.integers(0, 5_000), st.integers(0, 20_000))
def test_the_rate_stays_between_nothing_and_its_peak(total: int, warmup: int, samples: int) -> None:
    config = OptimizerConfig(learning_rate=2.0, warmup=warmup)
    assert 0.0 <= learning_rate(config, samples, total) <= 2.0


@given(st.integers(1, 64), st.integers(1, 500), st.integers(1, 200))
def test_commits_are_as_many_as_asked_and_the_end_is_one(
    batch: int, every: int, steps: int
) -> None:
    due = [step for step in range(1, steps + 1) if commits_after(step, batch, every, steps)]
    assert due[-1] == steps
    for step in due[:-1]:
        assert step * batch - every * (step * batch // every) < batch
    if every >= batch:
        assert abs(len(due) - steps * batch / every) <= 1


def test_a_commit_falls_on_the_first_step_that_reaches_its_count() -> None:
    assert [s for s in range(1, 11) if commits_after(s, 16, 50, 10)] == [4, 7, 10]
