"""Who enters a clip, when, from where and how fast."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipelines.sprites.world import LEAD, Body, Scene

# One gravity, one friction and a narrow range of speeds for all clips: what plays at
# another pace looks wrong.
SCENES = (
    Scene("fall", gravity=2.5, friction=0.5, elastic=0.75),
    Scene("slide", gravity=0.0, friction=0.6, elastic=0.8),
)
Side = Literal["left", "right", "top"]
_SIDES: tuple[Side, ...] = ("left", "right", "top")
_MAIN = (0.16, 0.20)  # radius of the largest, in sides
_OTHERS = (0.10, 0.14)
_CROWD = 4  # sprites from which on more of them are smaller ones
_LAST = 0.8  # of a clip, by which all have entered


@dataclass(frozen=True)
class Cast:
    """The beginning of a clip.

    Attributes:
        scene: What acts on the bodies.
        side: Where all of them enter.
        bodies: The largest first; it is in the picture from the beginning.
    """

    scene: Scene
    side: Side
    bodies: tuple[Body, ...]


def draw_cast(random: np.random.Generator, seconds: float, most: int) -> Cast:
    """Draw the beginning of a clip.

    Args:
        random: Where from.
        seconds: Length of the clip, over which the bodies enter.
        most: How many bodies there may be; at least two where it is not 1.
    """
    scene = SCENES[random.integers(len(SCENES))]
    side = _SIDES[random.integers(len(_SIDES))]
    count = int(random.integers(min(2, most), most + 1))
    shrink = math.sqrt(_CROWD / max(_CROWD, count))
    bodies = []
    for number in range(count):
        radius = shrink * random.uniform(*(_OTHERS if number else _MAIN))
        part = (number - 1 + random.uniform()) / max(1, count - 1)
        enters = _LAST * seconds * part if number else -LEAD * random.uniform(0.6, 0.9)
        bodies.append(_body(random, scene, side, radius, enters))
    return Cast(scene, side, tuple(bodies))


def _body(
    random: np.random.Generator, scene: Scene, side: Side, radius: float, enters: float
) -> Body:
    """A body beyond a side, on its way in."""
    inward, along, where = _throw(random, scene, side)
    where = radius + where * (1.0 - 2.0 * radius)
    if side == "top":
        return Body(radius, enters, (where, -radius), (along, inward))
    if side == "left":
        return Body(radius, enters, (-radius, where), (inward, along))
    return Body(radius, enters, (1.0 + radius, where), (-inward, along))


def _throw(random: np.random.Generator, scene: Scene, side: Side) -> tuple[float, float, float]:
    """Speed inward and along the side, and where along it, from 0 to 1."""
    if scene.gravity == 0.0:
        speed, angle = random.uniform(1.1, 1.4), random.uniform(-0.6, 0.6)
        return speed * math.cos(angle), speed * math.sin(angle), random.uniform()
    if side == "top":
        return random.uniform(0.5, 0.8), random.uniform(-0.5, 0.5), random.uniform()
    return random.uniform(0.7, 1.0), random.uniform(-0.6, 0.0), random.uniform(0.1, 0.5)
