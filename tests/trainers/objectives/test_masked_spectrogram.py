from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipelines.core import ConfigError
from pipelines.core.batch import Batch
from pipelines.core.randomness import uniform
from tests.trainers.conftest import AROUND
from tests.trainers.two_workers import assert_two_equal_one
from trainers.core.objective import Surroundings
from trainers.objectives.masked_spectrogram import MaskedSpectrogram, at, patchify

# 0.5 s at 2,000 samples a second: 51 windows, 7 patches of 8 along time, 2 of 16 bands.
SOUND, PATCHES, VALUES = 1000, 14, 128


def small(masked: float = 0.75, normalise: bool = True) -> MaskedSpectrogram:
    torch.manual_seed(0)
    config = MaskedSpectrogram.Config(
        tower={"width": 16, "layers": 2, "heads": 2}, masked=masked, width=32, normalise=normalise
    )
    return MaskedSpectrogram(config, Surroundings(size=0, sound=SOUND, sound_rate=2000))


def some(count: int, seed: int = 0) -> Batch:
    random = torch.Generator().manual_seed(seed)
    sounds = torch.rand(count, SOUND, generator=random) * 2 - 1
    keys = torch.randint(-(2**62), 2**62, (count,), generator=random)
    views = {"sound": sounds, "present": torch.arange(count) % 3 != 1}
    return Batch(torch.arange(count), keys, views)


def order_of(keys: torch.Tensor) -> np.ndarray:
    return np.argsort(uniform(keys, 1, PATCHES).numpy(), axis=1, kind="stable")


def patch_of(spectrum: torch.Tensor, number: int) -> torch.Tensor:
    """One patch's values. [16, 8]."""
    row, column = number // 7 * 16, number % 7 * 8
    return spectrum[row : row + 16, column : column + 8]


def target_of(spectrum: torch.Tensor, number: int, normalise: bool) -> np.ndarray:
    values = patch_of(spectrum, int(number)).flatten().tolist()
    if not normalise:
        return np.array(values)
    mean = sum(values) / VALUES
    variance = sum((v - mean) ** 2 for v in values) / (VALUES - 1)
    return np.array([(v - mean) / math.sqrt(variance + 1e-6) for v in values])


def is_heard(number: int, length: int) -> bool:
    """Whether a patch hears any of a sound; windows of 64 are around multiples of 20."""
    return number % 7 * 8 * 20 - 31 < length


def test_two_workers_are_one() -> None:
    assert_two_equal_one("masked_spectrogram")


def test_patches_are_in_reading_order() -> None:
    spectra = torch.rand(2, 32, 56)
    patches = patchify(spectra, (16, 8))
    assert patches.shape == (2, PATCHES, VALUES)
    for sample in range(2):
        for number in range(PATCHES):
            assert torch.equal(patches[sample, number], patch_of(spectra[sample], number).flatten())


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("samples", [[0, 1, 2, 3], [0, 1, 2, 2]])
@pytest.mark.parametrize("lengths", [[SOUND] * 4, [SOUND, 0, 420, 300], [350, SOUND, 0, 610]])
def test_loss_and_accuracy_equal_their_formulas(
    normalise: bool, samples: list[int], lengths: list[int]
) -> None:
    objective = small(normalise=normalise).double()
    batch = some(4)
    silent = torch.arange(SOUND) >= torch.tensor(lengths)[:, None]
    views = {**batch.views, "sound": batch.views["sound"].double().masked_fill(silent, 0)}
    batch = Batch(torch.tensor(samples), batch.keys, views)
    order, kept = order_of(batch.keys), PATCHES - round(0.75 * PATCHES)
    places = torch.from_numpy(order)
    with torch.no_grad():
        spectra = objective.tower.spectrum(batch.views["sound"])
        seen = objective.tower.tokens(spectra, places[:, :kept])
        predicted = objective.decoder(seen, places).numpy()
    losses, right, deaf = [], [], []
    sounding = [s for s in range(4) if batch.views["present"][s] and lengths[s]]
    for sample in sounding:
        told = [n for n in order[sample, kept:] if is_heard(n, lengths[sample])]
        targets = [target_of(spectra[sample], number, normalise) for number in told]
        mine = []
        for place, (number, own) in enumerate(zip(told, targets, strict=True)):
            guess = predicted[sample, list(order[sample, kept:]).index(number)]
            far = [((guess - target) ** 2).mean() for target in targets]
            mine.append(far[place])
            right.append(far[place] == min(far))
            others = [
                target_of(spectra[one], number, normalise)
                for one in sounding
                if samples[one] != samples[sample] and is_heard(number, lengths[one])
            ]
            usual = np.mean(others, 0) if others else np.zeros_like(own)
            far = [((usual - target) ** 2).mean() for target in targets]
            deaf.append(far[place] == min(far))
        losses += [sum(mine) / len(mine)] if mine else []
    output = objective(batch)
    assert output.loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-9)
    values = {name: value.item() for name, value in output.metrics.items()}
    assert values == pytest.approx(
        {
            "accuracy": sum(right) / len(right),
            "chance": sum(deaf) / len(deaf),
            "answers": len(right) / 4,
            "usable": len(losses) / 4,
        }
    )


@pytest.mark.parametrize("length", [0, 1, 128, 129, 130, 300, 449, 450, 700, SOUND])
@pytest.mark.parametrize("mel", [{}, {"window": 0.0325, "hop": 0.0123}])
def test_patches_that_begin_after_the_end_are_those_of_silence_alone(
    length: int, mel: dict[str, float]
) -> None:
    config = MaskedSpectrogram.Config(tower={"width": 16, "heads": 2, "mel": mel})
    around = Surroundings(size=0, sound=SOUND, sound_rate=2000)
    objective, batch = MaskedSpectrogram(config, around), some(3)
    batch.views["sound"][:, length:] = 0
    batch.views["present"][:] = torch.tensor([True, True, False])
    spectra = objective.double().tower.spectrum(batch.views["sound"].double())
    sounding = (patchify(spectra, (16, 8)) > -1 + 1e-9).any(2)
    sounding[2] = False
    assert torch.equal(objective.heard(batch), sounding)


def test_silence_after_the_end_caps_neither_accuracy_nor_chance() -> None:
    objective, batch = small(normalise=False), some(4)
    batch.views["present"].fill_(True)
    batch.views["sound"][1:, 300:] = 0
    batch.views["sound"][3] = 0
    with torch.no_grad():
        rows = dict(objective.rows(batch))
        places = torch.from_numpy(order_of(batch.keys))[:, 4:]
        known = at(patchify(rows["spectrum"], (16, 8)), places)
        output = objective.compare({**rows, "predicted": known}, batch)
    assert output.loss.item() == 0
    assert output.metrics["accuracy"].item() == 1
    assert output.metrics["usable"].item() == 3 / 4


def test_what_is_told_of_silence_after_the_end_is_not_learned_from() -> None:
    objective, batch = small(), some(2)
    batch.views["present"].fill_(True)
    batch.views["sound"][1, 300:] = 0
    rows = objective.rows(batch)
    predicted = rows["predicted"].detach().requires_grad_()
    objective.compare({**rows, "predicted": predicted}, batch).loss.backward()
    told = objective.heard(batch).gather(1, torch.from_numpy(order_of(batch.keys))[:, 4:])
    assert told[0].all()
    assert 0 < told[1].sum() < 10
    assert torch.equal(predicted.grad.ne(0).any(2), told)


def test_the_tower_hears_visible_patches_only() -> None:
    objective, batch = small(), some(2)
    spectra, order = objective.tower.spectrum(batch.views["sound"]), order_of(batch.keys)
    visible = torch.from_numpy(order)[:, :4]
    before = objective.tower.tokens(spectra, visible)
    for sample in range(2):
        for number in order[sample, 4:]:
            patch_of(spectra[sample], int(number)).fill_(9.0)
    assert torch.equal(objective.tower.tokens(spectra, visible), before)


def test_seen_alone_or_all_together_a_patch_has_its_place() -> None:
    tower = small().tower
    spectra = tower.spectrum(some(3).views["sound"])
    order = torch.stack([torch.randperm(PATCHES) for _ in range(3)])
    every = tower.tokens(spectra)
    torch.testing.assert_close(tower.tokens(spectra, order), every[torch.arange(3)[:, None], order])


@pytest.mark.parametrize(("masked", "kept"), [(0.75, 4), (0.5, 7), (0.9, 1)])
def test_the_mask_ratio_is_exact_and_follows_the_keys(masked: float, kept: int) -> None:
    objective, batch, seen = small(masked), some(5), []
    real = objective.tower.tokens
    objective.tower.tokens = lambda spectrum, places: seen.append(places) or real(spectrum, places)
    first = objective(batch).loss
    assert torch.equal(seen[0], torch.from_numpy(order_of(batch.keys))[:, :kept])
    assert torch.equal(objective(batch).loss, first)
    assert not torch.equal(objective(Batch(batch.samples, batch.keys + 1, batch.views)).loss, first)


def test_a_sound_is_transformed_once_a_step() -> None:
    objective, seen = small(), []
    real = objective.tower.spectrum
    objective.tower.spectrum = lambda waveforms: seen.append(len(waveforms)) or real(waveforms)
    objective(some(5)).loss.backward()
    assert seen == [5]


def test_without_any_track_nothing_is_learned() -> None:
    objective, batch = small(), some(3)
    views = {**batch.views, "present": torch.zeros(3, dtype=torch.bool)}
    output = objective(Batch(batch.samples, batch.keys, views))
    output.loss.backward()
    assert output.loss.item() == 0
    assert not any(p.grad.any() for p in objective.parameters())


@pytest.mark.parametrize("masked", [0.01, 0.99])
def test_a_share_that_leaves_nothing_is_refused(masked: float) -> None:
    with pytest.raises(ConfigError, match=r"objective\.masked: .* of 14 patches leaves nothing"):
        small(masked)


def test_without_sound_it_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"set data\.decode\.audio"):
        MaskedSpectrogram(MaskedSpectrogram.Config(), replace(AROUND, sound=0, sound_rate=0))


def test_it_learns_to_continue_tones() -> None:
    """Each sound is one steady tone: what is heard of it tells the rest."""
    objective = small(normalise=False)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    time = torch.arange(SOUND) / 2000

    def draw(count: int, seed: int) -> Batch:
        random = torch.Generator().manual_seed(seed)
        pitch = 100 * torch.randint(1, 9, (count, 1), generator=random)
        keys = torch.randint(-(2**62), 2**62, (count,), generator=random)
        tones = 0.5 * torch.sin(2 * math.pi * pitch * time)
        return Batch(
            torch.arange(count),
            keys,
            {"sound": tones, "present": torch.ones(count, dtype=torch.bool)},
        )

    for step in range(120):
        objective(draw(32, step)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    batch = draw(200, 5000)
    with torch.no_grad():
        found = objective(batch)
        spread = objective.tower.spectrum(batch.views["sound"]).var(0).mean()
    assert found.loss < 0.6 * spread  # who says the mean of all sounds is as far off as they spread
