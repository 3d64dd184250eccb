from __future__ import annotations

import json

import numpy as np
import pytest

from pipelines.sprites.cast import SCENES, Cast
from pipelines.sprites.cutouts import Cutout
from pipelines.sprites.words import caption, labels
from pipelines.sprites.world import Body, Impact, Motion

SPRITES = [Cutout(name, f"of {name}", np.zeros((1, 1, 4), np.uint8)) for name in ("apple", "cat")]
BODIES = tuple(Body(0.1, 0.0, (0.0, 0.0), (1.0, 0.0)) for _ in SPRITES)


def happened(*who: tuple[int, ...]) -> Motion:
    impacts = tuple(Impact(n / 3, 1.0, bodies) for n, bodies in enumerate(who))
    return Motion(1, np.zeros((1, 2, 2)), np.zeros((1, 2, 2)), impacts)


@pytest.mark.parametrize(
    ("scene", "who", "said"),
    [
        (0, [], "an apple falls in from the left, with a cat"),
        (1, [(0,)], "an apple slides in from the left, bounces once, with a cat"),
        (0, [(0, 1)], "an apple falls in from the left, hits a cat"),
        (0, [(0,), (0, 1), (1,), (0,)], "an apple falls in from the left, bounces twice and hits"),
        (1, [(0,)] * 3, "an apple slides in from the left, bounces 3 times, with a cat"),
    ],
)
def test_captions_say_what_happens(scene, who, said):
    assert caption(Cast(SCENES[scene], "left", BODIES), SPRITES, happened(*who)).startswith(said)


def test_labels_count_what_happens():
    found = labels(Cast(SCENES[0], "top", BODIES), SPRITES, happened((0,), (1,), (0, 1)))
    assert json.loads(json.dumps(found)) == {
        "label": "apple",
        "group": "of apple",
        "names": ["apple", "cat"],
        "sprites": 2,
        "scene": "fall",
        "side": "top",
        "bounces": 2,
        "collisions": 1,
        "impacts": [0.0, 0.3333, 0.6667],
    }
