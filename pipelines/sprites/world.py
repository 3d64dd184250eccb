"""Discs that fall or slide, bounce and collide in a unit square, and lose energy as they do.

Lengths are in sides of the picture, x to the right and y down; times in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

LEAD = 0.5  # seconds simulated before a clip, so that something is in its first picture
_RATE = 120  # steps a second, at least
_REST = 0.12  # sides a second: what meets more slowly stays together
_AUDIBLE = 0.3  # sides a second from which on two things are said to have met
_GRIP = 0.95  # of the speed along a wall that is left after a bounce

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


@dataclass(slots=True)
class _Disc:
    radius: float
    mass: float
    place: list[float]
    velocity: list[float]
    inside: list[bool]  # along x and y: from then on the edges hold it


def simulate(scene: Scene, bodies: Sequence[Body], frames: int, fps: int) -> Motion:
    """Let bodies move.

    In flight positions are exact. Nothing ever adds energy: a bounce keeps a share
    of the speed at contact, a collision a share of the speed at which two approach.

    Args:
        scene: What acts on them.
        bodies: At least one.
        frames: How many pictures.
        fps: Pictures a second; neither it nor ``frames`` changes what is simulated
            by more than the length of a step.
    """
    every = math.ceil(_RATE / fps)
    step = 1.0 / (every * fps)
    before = math.ceil(LEAD / step)
    discs = [_disc(body) for body in bodies]
    path = np.zeros((frames * every, len(bodies), 4))
    impacts: list[Impact] = []
    for number in range(-before, frames * every):
        time = number * step
        moving = [n for n, body in enumerate(bodies) if body.enters <= time]
        if number >= 0:
            path[number] = [(*disc.place, *disc.velocity) for disc in discs]
            waiting = [n for n in range(len(bodies)) if n not in moving]
            path[number, waiting, 2:] = 0.0
        for n in moving:
            speed = _advance(discs[n], scene, step)
            impacts += _heard(time + step, speed, (n,))
        for place, first in enumerate(moving):
            for second in moving[place + 1 :]:
                speed = _collide(discs[first], discs[second], scene.elastic)
                impacts += _heard(time + step, speed, (first, second))
    end = frames / fps
    kept = tuple(impact for impact in impacts if 0.0 <= impact.time < end)
    return Motion(every, path[..., :2], path[..., 2:], kept)


def _disc(body: Body) -> _Disc:
    inside = [body.radius <= at <= 1.0 - body.radius for at in body.place]
    return _Disc(body.radius, body.radius**2, list(body.place), list(body.velocity), inside)


def _heard(time: float, speed: float, bodies: tuple[int, ...]) -> list[Impact]:
    return [Impact(time, speed, bodies)] if speed >= _AUDIBLE else []


def _advance(disc: _Disc, scene: Scene, step: float) -> float:
    """Move a disc by a step; returns the speed at which it met an edge, or 0."""
    place, velocity, pull = disc.place, disc.velocity, scene.gravity
    place[0] += velocity[0] * step
    place[1] += velocity[1] * step + 0.5 * pull * step * step
    velocity[1] += pull * step
    met = max(_meet(disc, 0, 0.0, scene.elastic), _meet(disc, 1, pull, scene.elastic))
    if pull == 0.0 or (place[1] == 1.0 - disc.radius and velocity[1] == 0.0):
        _slow(velocity, scene.friction * step)
    return met


def _meet(disc: _Disc, axis: int, pull: float, elastic: float) -> float:
    """Bounce off the edges across an axis; returns the speed of contact, or 0."""
    low, high = disc.radius, 1.0 - disc.radius
    place, velocity = disc.place[axis], disc.velocity[axis]
    if low <= place <= high:
        disc.inside[axis] = True
        return 0.0
    outward = velocity if place > high else -velocity
    if outward <= 0.0:
        return 0.0
    # What gravity added beyond the edge was never there: putting the disc back costs it.
    beyond = max(0.0, place - high)
    contact = math.sqrt(max(0.0, velocity * velocity - 2.0 * pull * beyond))
    rebound = elastic * contact if contact > _REST else 0.0
    disc.velocity[axis] = -rebound if place > high else rebound
    if disc.inside[axis]:
        disc.place[axis] = high if place > high else low
    if rebound:
        disc.velocity[1 - axis] *= _GRIP
    return contact


def _slow(velocity: list[float], change: float) -> None:
    speed = math.hypot(*velocity)
    share = max(0.0, 1.0 - change / speed) if speed else 0.0
    velocity[0] *= share
    velocity[1] *= share


def _collide(first: _Disc, second: _Disc, elastic: float) -> float:
    """Let two discs push each other; returns the speed at which they met, or 0."""
    x, y = second.place[0] - first.place[0], second.place[1] - first.place[1]
    distance = math.hypot(x, y)
    if not 0.0 < distance < first.radius + second.radius:
        return 0.0
    x, y = x / distance, y / distance
    a, b = first.velocity, second.velocity
    approach = (a[0] - b[0]) * x + (a[1] - b[1]) * y
    if approach <= 0.0:
        return 0.0
    share = elastic if approach > _REST else 0.0
    push = (1.0 + share) * approach * first.mass * second.mass / (first.mass + second.mass)
    a[0] -= push / first.mass * x
    a[1] -= push / first.mass * y
    b[0] += push / second.mass * x
    b[1] += push / second.mass * y
    return approach
