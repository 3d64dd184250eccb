from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sprites.cast import SCENES, draw_cast
from pipelines.sprites.physics import simulate
from pipelines.sprites.world import Body, Scene

FALL, SLIDE = SCENES
seeds = st.integers(0, 2**32 - 1)


def alone(scene: Scene, place=(0.5, 0.2), velocity=(0.0, 0.0), frames=64, fps=64, radius=0.1):
    (motion,) = simulate([(scene, [Body(radius, 0.0, place, velocity)])], frames, fps)
    return motion


@given(seeds, st.integers(1, 8))
def test_energy_never_rises(play, seed, most):
    cast, motion = play(seed, most=most)
    velocities = motion.velocities.copy()
    times = np.arange(len(velocities)) / (16 * motion.every)
    for number, body in enumerate(cast.bodies):
        velocities[times < body.enters, number] = body.velocity  # with which it will set off
    masses = np.array([body.radius**2 for body in cast.bodies])
    moving = 0.5 * (velocities**2).sum(axis=2)
    energy = ((moving - cast.scene.gravity * motion.places[..., 1]) * masses).sum(axis=1)
    assert np.diff(energy).max() <= 1e-9
    assert energy[-1] < energy[0]


@given(seeds, st.integers(1, 12), st.sampled_from([5, 16, 30]))
def test_nothing_leaves_once_it_is_inside(play, seed, most, fps):
    cast, motion = play(seed, frames=3 * fps, fps=fps, most=most)
    for number, body in enumerate(cast.bodies):
        low, high = body.radius, 1.0 - body.radius
        path = motion.places[:, number]
        inside = ((path >= low) & (path <= high)).all(axis=1)
        if inside.any():
            after = path[inside.argmax() :]
            assert after.min() >= low - 1e-9
            assert after.max() <= high + 1e-9


@given(seeds)
def test_the_same_seed_is_the_same_world(play, seed):
    (cast, motion), (again, repeated) = play(seed), play(seed)
    assert cast == again
    assert motion.impacts == repeated.impacts
    assert np.array_equal(motion.places, repeated.places)


@given(st.lists(st.tuples(seeds, st.integers(1, 12)), min_size=2, max_size=6))
def test_a_world_does_not_depend_on_those_simulated_beside_it(drawn):
    casts = [draw_cast(np.random.default_rng(seed), 2.0, most) for seed, most in drawn]
    worlds = [(cast.scene, cast.bodies) for cast in casts]
    for world, beside in zip(worlds, simulate(worlds, 32, 16), strict=True):
        (alone,) = simulate([world], 32, 16)
        assert alone.impacts == beside.impacts
        assert np.array_equal(alone.places, beside.places)
        assert np.array_equal(alone.velocities, beside.velocities)


def test_free_fall_is_exact():
    motion = alone(FALL, velocity=(0.3, 0.0), frames=16)
    time = np.arange(16) / 64
    assert np.allclose(motion.shown[:, 0, 0], 0.5 + 0.3 * time, atol=1e-12)
    assert np.allclose(motion.shown[:, 0, 1], 0.2 + 0.5 * FALL.gravity * time**2, atol=1e-12)


def test_a_bounce_happens_when_and_as_fast_as_it_must():
    motion = alone(FALL, frames=128)
    drop = 0.9 - 0.2
    first = motion.impacts[0]
    assert first.time == pytest.approx(math.sqrt(2 * drop / FALL.gravity), abs=1 / 64)
    assert first.speed == pytest.approx(math.sqrt(2 * FALL.gravity * drop), rel=1e-6)
    start = round(first.time * 64 * motion.every)
    top = motion.places[start : start + 100, 0, 1].min()
    assert 0.9 - top == pytest.approx(FALL.elastic**2 * drop, rel=0.03)


@pytest.mark.parametrize("scene", SCENES)
def test_what_moves_comes_to_rest(scene):
    motion = alone(scene, velocity=(0.9, 0.4), frames=16 * 20, fps=16)
    assert not motion.velocities[-16:].any()
    assert np.ptp(motion.places[-16:], axis=0).max() == 0.0
    assert (motion.places[-1, 0, 1] == pytest.approx(0.9)) or scene is SLIDE


def test_friction_slows_a_sliding_disc_evenly():
    motion = alone(SLIDE, place=(0.2, 0.5), velocity=(0.6, 0.0), frames=64)
    speeds = motion.velocities[:: motion.every, 0, 0]
    assert np.allclose(speeds, np.maximum(0, 0.6 - SLIDE.friction * np.arange(64) / 64), atol=1e-9)


def test_a_collision_keeps_momentum_and_loses_speed():
    scene = Scene("slide", gravity=0.0, friction=0.0, elastic=0.8)
    bodies = [
        Body(0.1, 0.0, (0.2, 0.5), (0.8, 0.0)),
        Body(0.05, 0.0, (0.6, 0.52), (-0.2, 0.0)),
    ]
    (motion,) = simulate([(scene, bodies)], 30, 60)
    (impact,) = motion.impacts
    assert impact.bodies == (0, 1)
    masses = np.array([0.01, 0.0025])[:, None]
    before, after = motion.velocities[0], motion.velocities[-1]
    assert np.allclose((masses * before).sum(0), (masses * after).sum(0), atol=1e-12)
    assert (masses * after**2).sum() < (masses * before**2).sum()
    gap = 0.4 - 0.15
    assert impact.time == pytest.approx(gap / 1.0, abs=0.02)


@given(seeds)
def test_only_what_is_in_the_clip_is_heard_and_in_order(play, seed):
    _, motion = play(seed, frames=20)
    times = [impact.time for impact in motion.impacts]
    assert times == sorted(times)
    assert all(0.0 <= time < 20 / 16 for time in times)


@pytest.mark.parametrize("fps", [1, 7, 24, 240])
def test_there_is_a_place_for_every_frame(play, fps):
    cast, motion = play(3, frames=9, fps=fps)
    assert motion.shown.shape == (9, len(cast.bodies), 2)
    assert motion.every * fps >= 120
