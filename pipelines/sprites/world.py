"""Discs in a unit square: what acts on them, and what happened to them.

Lengths are in sides of the picture, x to the right and y down; times in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

LEAD = 0.5  # seconds simulated before a clip, so that something is in its first picture

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """What acts on the discs.

    Attributes:
        name: Its name in labels.
        gravity: Downwards, in sides a second squared.
        friction: Deceleration along what a disc lies on: the floor where there is
            gravity, the whole picture where there is none. Sides a second squared.
        elastic: Share of the speed that is left after a bounce, below 1.
    """

    name: Literal["fall", "slide"]
    gravity: float
    friction: float
    elastic: float


@dataclass(frozen=True)
class Body:
    """A disc, before it moves.

    Attributes:
        radius: In sides; its mass is the square of it.
        enters: When it sets off, in seconds of the clip; not before ``-LEAD``.
        place: Where from: x and y, beyond the edge that it comes in by.
        velocity: In sides a second.
    """

    radius: float
    enters: float
    place: tuple[float, float]
    velocity: tuple[float, float]


@dataclass(frozen=True)
class Impact:
    """Two things that met.

    Attributes:
        time: In seconds of the clip.
        speed: At which they met, in sides a second.
        bodies: Numbers of the discs: one that bounced off an edge, or two that collided.
    """

    time: float
    speed: float
    bodies: tuple[int, ...]


@dataclass(frozen=True)
class Motion:
    """What happened.

    Attributes:
        every: Steps a picture.
        places: Centres at each step from the first picture on. [S, N, 2]
        velocities: At the same times; zero before a disc has set off. [S, N, 2]
        impacts: In order of time.
    """

    every: int
    places: Array
    velocities: Array
    impacts: tuple[Impact, ...]

    @property
    def shown(self) -> Array:
        """Centres in each picture. [T, N, 2]."""
        return self.places[:: self.every]
