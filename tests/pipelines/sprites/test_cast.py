from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sprites.cast import draw_cast
from pipelines.sprites.world import LEAD


def casts(count: int, **options):
    settings = {"seconds": 2.0, "most": 4, **options}
    return [draw_cast(np.random.default_rng(seed), **settings) for seed in range(count)]


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_bodies_come_in_by_one_side_the_largest_first(seed, most):
    cast = draw_cast(np.random.default_rng(seed), 2.0, most)
    assert min(2, most) <= len(cast.bodies) <= most
    first, *others = cast.bodies
    assert -LEAD <= first.enters < 0
    for body in others:
        assert body.radius < first.radius
        assert 0 <= body.enters < 2.0
    for body in cast.bodies:
        x, y = body.place
        beyond = {"left": -x, "right": x - 1.0, "top": -y}
        assert beyond[cast.side] == pytest.approx(body.radius)
        inward = {"left": body.velocity[0], "right": -body.velocity[0], "top": body.velocity[1]}
        assert inward[cast.side] > 0


def test_all_scenes_sides_and_counts_happen():
    drawn = casts(200)
    assert len({(cast.scene.name, cast.side, len(cast.bodies)) for cast in drawn}) == 2 * 3 * 3


def test_speeds_differ_by_less_than_the_factor_that_pace_is_told_by(play):
    """At twice the pace the median clip is faster than nearly all others."""
    for scene in ("fall", "slide"):
        motions = [play(seed, scene=scene)[1] for seed in range(60)]
        speeds = [np.hypot(*motion.velocities[:32, 0].T).mean() for motion in motions]
        assert np.median(speeds) * 2 > np.quantile(speeds, 0.95)


def test_the_largest_is_in_the_first_picture(play):
    for seed in range(60):
        cast, motion = play(seed)
        x, y = motion.shown[0, 0]
        reach = cast.bodies[0].radius
        assert -0.7 * reach < x < 1 + 0.7 * reach
        assert -0.7 * reach < y < 1 + 0.7 * reach
