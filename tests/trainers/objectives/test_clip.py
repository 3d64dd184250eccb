from __future__ import annotations

import pytest
import torch

from pipelines.core import ConfigError
from tests.trainers.conftest import random_batch
from trainers.core.objective import Surroundings
from trainers.objectives.clip import Clip

AROUND = Surroundings(size=16, vocabulary=280, length=8)


def test_without_captions_it_says_what_to_set() -> None:
    with pytest.raises(ConfigError, match=r"data\.decode\.text"):
        Clip(Clip.Config(), Surroundings(size=16))


def test_the_logit_scale_starts_where_told_and_is_bounded() -> None:
    objective = Clip(Clip.Config(initial_scale=10.0), AROUND)
    batch = random_batch(objective, 4, 16)
    assert objective(batch).metrics["logit_scale"].item() == pytest.approx(10.0, rel=1e-5)
    with torch.no_grad():
        objective.log_scale.fill_(20.0)
    assert objective(batch).metrics["logit_scale"].item() == 100.0


def test_images_and_texts_meet_in_one_space() -> None:
    encoders = Clip(Clip.Config(dimensions=32), AROUND).encoders()
    batch = random_batch(Clip(Clip.Config(), AROUND), 4, 16)
    assert encoders["image_embedding"](batch.views["image"]).shape == (4, 32)
    assert encoders["text_embedding"](batch.views["text"]).shape == (4, 32)
