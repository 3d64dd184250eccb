from __future__ import annotations

import math

import pytest
import torch

from pipelines.core import ConfigError
from tests.trainers import two_workers
from tests.trainers.conftest import AROUND, SMALL_TOWERS, random_batch
from tests.trainers.two_workers import assert_two_equal_one
from trainers.objectives import OBJECTIVES


def small(**options: object):
    torch.manual_seed(0)
    config = OBJECTIVES.parse({"kind": "pace", "video": SMALL_TOWERS["video"], **options})
    return OBJECTIVES.build(config, AROUND)


def test_two_workers_are_one() -> None:
    assert_two_equal_one("pace")


def test_the_class_is_the_stride_of_the_view() -> None:
    objective = small()
    batch = random_batch(objective, 6, 16)
    steps = objective.views["clip"].places(batch.keys, AROUND.frames).diff(dim=1)[:, 0].tolist()
    logits = objective.head(objective.tower(batch.views["clip"])).tolist()
    long = batch.views["long"].tolist()
    losses = [
        math.log(sum(math.exp(v) for v in row)) - row[(1, 2, 4).index(step)]
        for row, step, counts in zip(logits, steps, long, strict=True)
        if counts
    ]
    assert objective(batch).loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert 0 < len(losses) < 6


def test_rates_that_do_not_fit_or_repeat_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"raise data\.decode\.video\.frames, now 32"):
        small(rates=[1, 8])
    with pytest.raises(ConfigError, match="each rate once"):
        small(rates=[2, 2])


def test_a_guess_is_right_one_time_in_3() -> None:
    assert two_workers.small("pace").chance == 1 / 3
