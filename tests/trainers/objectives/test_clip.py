from __future__ import annotations

import pytest
import torch

from pipelines.core import ConfigError
from pipelines.core.batch import Batch
from pipelines.views import IdentityView, TextView
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


def test_captions_of_one_image_that_is_there_twice_do_not_repel() -> None:
    objective = Clip(Clip.Config(), AROUND)
    random = torch.Generator().manual_seed(0)
    rows = {name: torch.randn(3, 8, generator=random) for name in ("image", "text")}
    losses = []
    for samples, identities in (([0, 0, 1], [5, 6, 7]), ([0, 1, 2], [5, 5, 7])):
        numbers = torch.tensor(samples)
        batch = Batch(numbers, numbers, {"identity": torch.tensor(identities)})
        losses.append(objective.compare(rows, batch).loss.item())
    assert losses[0] == losses[1]


def test_identities_are_of_what_the_text_tower_reads() -> None:
    caption = TextView(field="alt", templates=("a {}", "the {}"), piece="random")
    views = Clip(Clip.Config(caption=caption), AROUND).views
    expected = IdentityView(field="alt", templates=("a {}", "the {}"), piece="random")
    assert views["identity"] == expected


@pytest.mark.parametrize("matched", [False, True])
def test_a_logit_scale_beyond_its_bound_comes_back_where_the_loss_wants_it(matched: bool) -> None:
    objective = Clip(Clip.Config(), AROUND)
    angles = torch.arange(4) * 0.1
    rows = torch.stack([angles.cos(), angles.sin()], 1)
    texts = rows if matched else rows.flip(0)
    numbers = torch.arange(4)
    batch = Batch(numbers, numbers, {"identity": numbers})
    with torch.no_grad():
        objective.log_scale.fill_(5.0)
    optimizer = torch.optim.SGD([objective.log_scale], lr=0.05)
    for _ in range(20):
        output = objective.compare({"image": rows, "text": texts}, batch)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
    scale = output.metrics["logit_scale"].item()
    if matched:
        assert (objective.log_scale.item(), scale) == (5.0, 100.0)
    else:
        assert scale < 100
