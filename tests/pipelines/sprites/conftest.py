"""Worlds that the tests of sprites share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pipelines.sprites.cast import Cast, draw_cast
from pipelines.sprites.physics import simulate
from pipelines.sprites.world import Motion


@pytest.fixture(scope="session")
def play() -> Callable[..., tuple[Cast, Motion]]:
    """What a seed casts, and what happens then."""

    def make(
        seed: int, frames: int = 32, fps: int = 16, most: int = 4, scene: str = ""
    ) -> tuple[Cast, Motion]:
        random = np.random.default_rng(seed)
        cast = draw_cast(random, frames / fps, most)
        while scene not in ("", cast.scene.name):
            cast = draw_cast(random, frames / fps, most)
        (motion,) = simulate([(cast.scene, cast.bodies)], frames, fps)
        return cast, motion

    return make
