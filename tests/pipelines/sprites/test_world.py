from __future__ import annotations

import numpy as np

from pipelines.sprites.world import Motion


def test_a_picture_shows_the_first_of_its_steps():
    places = np.arange(12.0).reshape(6, 1, 2)
    assert np.array_equal(Motion(3, places, places, ()).shown, places[[0, 3]])
