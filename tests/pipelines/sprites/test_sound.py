from __future__ import annotations

import numpy as np
import pytest

from pipelines.sprites.sound import make_sound
from pipelines.sprites.world import Impact, Motion

RATE, FPS, EVERY = 8000, 16, 8


def still(seconds: float = 1.0, impacts: tuple[Impact, ...] = (), speed: float = 0.0) -> Motion:
    steps = round(seconds * FPS * EVERY)
    velocities = np.zeros((steps, 2, 2))
    velocities[:, 0, 0] = speed
    return Motion(EVERY, np.full((steps, 2, 2), 0.5), velocities, impacts)


def make(motion: Motion, radii=(0.18, 0.1), rate: int = RATE) -> np.ndarray:
    return make_sound(np.random.default_rng(0), motion, radii, FPS, rate)


def pitch(sound: np.ndarray, rate: int = RATE) -> float:
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    return float(spectrum.argmax() * rate / len(sound))


@pytest.mark.parametrize("rate", [1000, 8000, 22_050])
def test_it_is_as_long_as_the_clip_and_within_bounds(rate):
    impacts = tuple(Impact(time, 9.0, (0, 1)) for time in (0.0, 0.1, 0.1, 0.1, 0.9999))
    sound = make(still(1.0, impacts), rate=rate)
    assert sound.shape == (rate,)
    assert sound.dtype == np.float32
    assert np.abs(sound).max() <= 1.0


def test_an_impact_begins_at_its_time():
    sound = make(still(1.0, (Impact(0.5, 2.0, (0,)),)))
    assert np.abs(sound[: RATE // 2]).max() < 0.03
    assert sound[RATE // 2] > 0.5
    assert np.abs(sound).argmax() == RATE // 2


def test_faster_is_louder_and_smaller_is_higher():
    soft, loud = (make(still(1.0, (Impact(0.2, speed, (0,)),))) for speed in (0.5, 1.5))
    assert np.abs(loud).max() == pytest.approx(3 * np.abs(soft).max(), rel=0.05)
    low, high = (make(still(1.0, (Impact(0.0, 2.0, (body,)),))) for body in (0, 1))
    assert pitch(high[:2000]) > 1.5 * pitch(low[:2000])


def test_a_collision_sounds_other_than_a_bounce():
    bounce, collision = (make(still(1.0, (Impact(0.0, 2.0, who),))) for who in ((0,), (0, 1)))
    assert pitch(bounce[:2000]) == pytest.approx(64 / 0.18, abs=10)

    def high(sound: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(sound[:2000])) ** 2
        return float(power[np.fft.rfftfreq(2000, 1 / RATE) > 1000].sum() / power.sum())

    assert high(collision) > 5 * high(bounce)


@pytest.mark.parametrize("speed", [0.5, 1.0, 1.5])
def test_the_hum_follows_the_speed_of_the_largest(speed):
    assert pitch(make(still(1.0, speed=speed))) == pytest.approx(80 + 160 * speed, abs=2)


def test_at_rest_there_is_only_noise():
    assert 0 < np.abs(make(still())).max() < 0.03
