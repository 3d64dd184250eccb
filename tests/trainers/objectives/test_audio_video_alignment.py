from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipelines.core import ConfigError
from pipelines.core.batch import Batch
from tests.trainers import two_workers
from tests.trainers.conftest import AROUND, random_batch
from tests.trainers.two_workers import assert_two_equal_one, double_batch, small
from trainers.objectives import OBJECTIVES
from trainers.objectives.audio_video_alignment import others, shifted


def keys(count: int) -> torch.Tensor:
    return torch.randint(-(2**62), 2**62, (count,), generator=torch.Generator().manual_seed(0))


def test_two_workers_are_one() -> None:
    assert_two_equal_one("audio_video_alignment")


def test_shifted_places_are_far_and_as_even_as_what_is_seen() -> None:
    places, least = 17, 4
    seen = torch.arange(17 * 400) % places
    moved = shifted(keys(len(seen)), seen, torch.full_like(seen, places), least)
    assert (moved - seen).abs().min() >= least
    shares = moved.bincount(minlength=places) / len(seen)
    assert (shares - 1 / places).abs().max() < 0.012


def test_each_sample_has_its_own_number_of_places() -> None:
    places = torch.arange(8, 18).repeat(500)
    seen = keys(len(places)).remainder(places)
    moved = shifted(keys(len(places)) + 1, seen, places, 4)
    assert (moved - seen).abs().min() >= 4
    for number in range(8, 18):
        assert set(moved[places == number].tolist()) == set(range(number))


def test_partners_have_sound_and_are_never_the_sample_itself() -> None:
    present = torch.arange(40) % 3 != 0
    each = torch.arange(40)
    drawn = torch.stack([others(present, keys(40) + shift, each)[0] for shift in range(300)])
    assert present[drawn].all()
    assert (drawn != each)[:, present].all()
    assert set(drawn[:, 1].tolist()) == set(present.nonzero()[:, 0].tolist()) - {1}


@pytest.mark.parametrize("samples", [torch.arange(40) // 4, torch.arange(40) % 10 - 3])
def test_partners_of_a_sample_that_repeats_are_of_other_samples(samples: torch.Tensor) -> None:
    present = torch.arange(40) % 8 != 0
    found = [others(present, keys(40) + shift, samples) for shift in range(300)]
    drawn = torch.stack([rows for rows, _ in found])
    assert all(there.all() for _, there in found)
    assert present[drawn].all()
    assert (samples[drawn] != samples)[:, present].all()
    for row in (1, 4, 39):
        assert set(drawn[:, row].tolist()) == set(
            (present & (samples != samples[row])).nonzero()[:, 0].tolist()
        )


def test_without_another_that_has_sound_there_is_no_partner() -> None:
    for present in ([False, False, False], [False, True, False]):
        assert not others(torch.tensor(present), keys(3), torch.arange(3))[1][1]
    assert not others(torch.ones(3, dtype=torch.bool), keys(3), torch.ones(3))[1].any()


def test_a_video_without_sound_counts_for_nothing() -> None:
    objective = small("audio_video_alignment").float()
    batch = random_batch(objective, 8, 16)
    other = torch.rand(batch.views["clip"].shape) * 2 - 1
    silent = ~batch.views["present"]
    clips = torch.where(silent.view(-1, 1, 1, 1, 1), other, batch.views["clip"])
    changed = Batch(batch.samples, batch.keys, {**batch.views, "clip": clips})
    torch.testing.assert_close(objective(changed).loss, objective(batch).loss)
    none = {**batch.views, "present": torch.zeros_like(silent)}
    assert objective(Batch(batch.samples, batch.keys, none)).loss.item() == 0


@pytest.mark.parametrize("repeats", [1, 3])
def test_the_loss_is_a_softmax_over_mean_cosines_of_moments(repeats: int) -> None:
    objective = small("audio_video_alignment")
    batch = double_batch(objective)
    batch = replace(batch, samples=batch.samples // repeats)
    rows = objective.encode(batch)
    long = batch.views["film"] >= objective._frames - 1 + 2 * objective._least
    assert 0 < long.sum() < len(long)
    present, samples = (batch.views["present"] & long).tolist(), batch.samples.tolist()
    size, frames = len(batch), objective._frames
    moments = {
        name: F.normalize(row.view(size, frames, -1), dim=2).numpy(force=True)
        for name, row in rows.items()
    }
    seen, moved = objective._places_of(batch.keys, batch.views["film"])
    places = {"sound": seen.tolist(), "shifted": moved.tolist()}

    def cosine(clip: int, name: str, other: int) -> float:
        return float((moments["clip"][clip] * moments[name][other]).sum(1).mean())

    def counts(clip: int, name: str, other: int) -> bool:
        far = abs(places[name][other] - places["sound"][clip]) >= objective._least
        own = (name, other) == ("sound", clip)
        return present[other] and (own or far or samples[other] != samples[clip])

    losses, rights, left_out = [], [], 0
    partners = others(torch.tensor(present), batch.keys, batch.samples)[0].tolist()
    for clip in (n for n in range(size) if present[n]):
        pairs = [(name, other) for name in ("sound", "shifted") for other in range(size)]
        kept = [pair for pair in pairs if counts(clip, *pair)]
        left_out += sum(present[other] for _, other in pairs) - len(kept)
        scores = {pair: cosine(clip, *pair) / 0.025 for pair in kept}
        losses.append(np.log(np.exp(list(scores.values())).sum()) - scores["sound", clip])
        wrong = scores["shifted", clip], scores["sound", partners[clip]]
        rights.append(scores["sound", clip] > max(wrong))
    assert (left_out > 0) == (repeats > 1)
    found = objective(batch)
    assert found.loss.item() == pytest.approx(np.mean(losses), rel=1e-9)
    assert found.metrics["accuracy"].item() == pytest.approx(np.mean(rights))


def test_a_sound_that_is_shifted_by_as_much_as_its_clip_is_the_same_sound() -> None:
    objective = small("audio_video_alignment")
    batch = double_batch(objective)
    batch.views["sound"][:] = torch.arange(batch.views["sound"].shape[1])
    places = torch.arange(len(batch)) % 4
    heard = objective._heard(batch, places)
    assert heard.shape[1] == int(objective._frames * objective._per_frame)
    assert torch.equal(heard[:, 0], (places * objective._per_frame).long().to(heard.dtype))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sound": 0}, r"set data\.decode\.audio"),
        ({"frames": 20}, r"raise data\.decode\.video\.frames to 23"),
        ({"sound": 3000}, r"set data\.decode\.audio\.seconds to 2"),
    ],
)
def test_what_is_too_short_is_refused(changes: dict[str, int], message: str) -> None:
    config = OBJECTIVES.parse({"kind": "audio_video_alignment"})
    with pytest.raises(ConfigError, match=message):
        OBJECTIVES.build(config, replace(AROUND, **changes))


def test_what_cannot_be_told_apart_is_not_found() -> None:
    objective = small("audio_video_alignment")
    batch = double_batch(objective)
    equal = {name: torch.ones_like(row) for name, row in objective.encode(batch).items()}
    assert objective.compare(equal, batch).metrics["accuracy"].item() == 0


def test_the_loss_is_not_rounded_by_autocast() -> None:
    objective = small("audio_video_alignment").float()
    batch = random_batch(objective, 8, 16)
    rows = {n: r.detach().requires_grad_() for n, r in objective.encode(batch).items()}
    exact = objective.compare(rows, batch).loss
    with torch.autocast("cpu", torch.bfloat16):
        found = objective.compare(rows, batch).loss
    assert torch.equal(found, exact)
    gradients = (torch.autograd.grad(loss, list(rows.values())) for loss in (found, exact))
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_a_guess_is_right_one_time_in_3() -> None:
    assert two_workers.small("audio_video_alignment").chance == 1 / 3
