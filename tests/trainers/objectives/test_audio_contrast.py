from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipelines.core import ConfigError
from pipelines.core.batch import Batch
from pipelines.core.randomness import integers
from tests.trainers.conftest import AROUND, random_batch
from tests.trainers.two_workers import assert_two_equal_one, double_batch, small
from trainers.core.objective import Surroundings
from trainers.objectives import OBJECTIVES
from trainers.objectives.audio_contrast import AudioContrast

KIND, LENGTH = "audio_contrast", 1920  # 0.96 s at 2,000 samples a second


def test_two_workers_are_one() -> None:
    assert_two_equal_one(KIND)


def pieces(batch: Batch, stream: int) -> torch.Tensor:
    starts = integers(batch.keys, stream, AROUND.sound - LENGTH + 1).tolist()
    sounds = batch.views["sound"]
    return torch.stack([s[at : at + LENGTH] for s, at in zip(sounds, starts, strict=True)])


def test_the_loss_equals_its_formula_over_samples_that_have_sound() -> None:
    objective = small(KIND)
    batch = double_batch(objective)
    present = batch.views["present"]
    assert 2 <= present.sum() < len(batch)
    with torch.no_grad():
        both = [objective.head(objective.tower(pieces(batch, s))).numpy() for s in (1, 2)]
    z = np.concatenate([projected[present.numpy()] for projected in both])
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    n = len(z) // 2
    losses, right = [], 0
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        cosines = {k: float(z[i] @ z[k]) for k in range(2 * n) if k != i}
        losses.append(
            -cosines[j] / 0.1 + math.log(sum(math.exp(c / 0.1) for c in cosines.values()))
        )
        right += cosines[j] == max(cosines.values())
    output = objective(batch)
    assert output.loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-9)
    values = {name: value.item() for name, value in output.metrics.items()}
    assert values == pytest.approx(
        {
            "accuracy": right / (2 * n),
            "chance": 1 / (2 * n - 1),
            "answers": 2 * n / len(batch),
            "usable": n / len(batch),
        }
    )


def test_without_any_track_nothing_is_learned() -> None:
    objective = small(KIND).float()
    batch = random_batch(objective, 8, 16)
    views = {**batch.views, "present": torch.zeros(8, dtype=torch.bool)}
    output = objective(Batch(batch.samples, batch.keys, views))
    output.loss.backward()
    assert output.loss.item() == 0
    assert not any(p.grad.any() for p in objective.parameters())


def heard_by(objective: AudioContrast) -> list[torch.Tensor]:
    """What the tower is given, from now on."""
    heard, real = [], objective.tower.forward
    objective.tower.forward = lambda sounds: heard.append(sounds) or real(sounds)
    return heard


def test_pieces_are_of_the_sound_and_not_of_what_fills_up_the_window() -> None:
    objective = small(KIND)
    batch = double_batch(objective)
    lengths = torch.tensor([4000, LENGTH, LENGTH + 1, 2500, 3999, 3000, 2000, 4000])
    batch.views["sound"].masked_fill_(torch.arange(AROUND.sound) >= lengths[:, None], 0)
    batch.views["present"].fill_(True)
    heard = heard_by(objective)
    assert objective(batch).metrics["usable"].item() == 1
    for given, stream in zip(heard, (1, 2), strict=True):
        full = pieces(batch, stream)
        for row, length in enumerate(lengths.tolist()):
            assert given[row].ne(0).all()
            if length == AROUND.sound:
                assert torch.equal(given[row], full[row])


def test_sounds_shorter_than_a_piece_are_as_if_they_were_not_there() -> None:
    objective = small(KIND)
    batch = double_batch(objective)
    batch.views["present"].fill_(True)
    short = Batch(batch.samples, batch.keys, {n: v.clone() for n, v in batch.views.items()})
    short.views["sound"][2, LENGTH - 1 :] = 0
    short.views["sound"][5] = 0
    batch.views["present"][[2, 5]] = False
    found, expected = objective(short), objective(batch)
    assert found.loss.item() == pytest.approx(expected.loss.item(), rel=1e-12)
    assert found.metrics["usable"].item() == 6 / 8
    for name, value in expected.metrics.items():
        assert found.metrics[name].item() == pytest.approx(value.item(), rel=1e-12), name


def test_it_finds_the_other_piece_of_tones_never_heard() -> None:
    """Each sound is a tone of its own pitch: what both pieces share."""
    torch.manual_seed(0)
    around = Surroundings(size=0, sound=1000, sound_rate=1000)
    config = AudioContrast.Config(
        audio={"kind": "mel_transformer", "width": 32, "layers": 1, "heads": 2}, seconds=0.3
    )
    objective = AudioContrast(config, around)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=2e-3)
    time = torch.arange(1000) / 1000

    def draw(count: int, seed: int) -> Batch:
        random = torch.Generator().manual_seed(seed)
        pitch = 20 + 400 * torch.rand(count, 1, generator=random)
        phase = 2 * math.pi * torch.rand(count, 1, generator=random)
        keys = torch.randint(-(2**62), 2**62, (count,), generator=random)
        tones = 0.5 * torch.sin(2 * math.pi * pitch * time + phase)
        views = {"sound": tones, "present": torch.ones(count, dtype=torch.bool)}
        return Batch(torch.arange(count), keys, views)

    for step in range(100):
        objective(draw(32, step)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        metrics = objective(draw(32, 5000)).metrics
    assert metrics["accuracy"] > 10 * metrics["chance"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sound": 0}, r"set data\.decode\.audio"),
        ({"sound": LENGTH}, r"raise data\.decode\.audio\.seconds, or lower objective\.seconds"),
    ],
)
def test_sound_that_is_too_short_is_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OBJECTIVES.build(OBJECTIVES.parse({"kind": KIND}), replace(AROUND, **changes))
