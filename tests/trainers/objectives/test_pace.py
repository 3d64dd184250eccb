from __future__ import annotations

import math

import pytest
import torch

from pipelines.core import ConfigError
from tests.trainers.conftest import AROUND, SMALL_TOWERS, random_batch
from trainers.objectives import OBJECTIVES


def small(**options: object):
    torch.manual_seed(0)
    config = OBJECTIVES.parse({"kind": "pace", "video": SMALL_TOWERS["video"], **options})
    return OBJECTIVES.build(config, AROUND)


def test_the_class_is_the_stride_of_the_view() -> None:
    objective = small()
    batch = random_batch(objective, 6, 16)
    steps = objective.views["clip"].places(batch.keys, AROUND.frames).diff(dim=1)[:, 0].tolist()
    logits = objective.head(objective.tower(batch.views["clip"])).tolist()
    losses = [
        math.log(sum(math.exp(v) for v in row)) - row[(1, 2, 4).index(step)]
        for row, step in zip(logits, steps, strict=True)
    ]
    assert objective(batch).loss.item() == pytest.approx(sum(losses) / 6, rel=1e-5)


def test_rates_that_do_not_fit_or_repeat_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"raise data\.decode\.video\.frames, now 32"):
        small(rates=[1, 8])
    with pytest.raises(ConfigError, match="each rate once"):
        small(rates=[2, 2])
