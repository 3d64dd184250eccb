"""Discs that fall or slide, bounce and collide in a unit square, and lose energy as they do.

Many worlds are simulated at once: of 256 each takes a fiftieth of what one alone does. What
happens in one of them does not depend on the others.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from pipelines.sprites.world import LEAD, Array, Body, Impact, Motion, Scene

_RATE = 120  # steps a second, at least
_REST = 0.12  # sides a second: what meets more slowly stays together
_AUDIBLE = 0.3  # sides a second from which on two things are said to have met
_GRIP = 0.95  # of the speed along a wall that is left after a bounce

Flags = npt.NDArray[np.bool_]
Chosen = tuple[npt.NDArray[np.int64], ...]
World = tuple[Scene, Sequence[Body]]


def steps_a_frame(fps: int) -> int:
    """How many steps are simulated from one picture to the next."""
    return math.ceil(_RATE / fps)


def simulate(worlds: Sequence[World], frames: int, fps: int) -> list[Motion]:
    """Let bodies move.

    In flight positions are exact. Nothing ever adds energy: a bounce keeps a share
    of the speed at contact, a collision a share of the speed at which two approach.

    Args:
        worlds: What acts on which bodies, at least one in each.
        frames: How many pictures.
        fps: Pictures a second; neither it nor ``frames`` changes what is simulated
            by more than the length of a step.

    Returns:
        What happened in each.
    """
    every = steps_a_frame(fps)
    step = 1.0 / (every * fps)
    before = math.ceil(LEAD / step)
    discs = _Discs(worlds, step)
    path = np.zeros((frames * every, 4, *discs.radius.shape))
    impacts: list[list[Impact]] = [[] for _ in worlds]
    for number in range(-before, frames * every):
        time = number * step
        moving = discs.enters <= time
        if number >= 0:
            path[number, :2] = discs.place
            np.multiply(discs.velocity, moving, out=path[number, 2:])
        for world, speed, bodies in itertools.chain(discs.advance(moving), discs.collide(moving)):
            if speed >= _AUDIBLE:
                impacts[world].append(Impact(time + step, speed, bodies))
    end = frames / fps
    kept = [tuple(i for i in some if 0.0 <= i.time < end) for some in impacts]
    ways = path.transpose(2, 0, 3, 1)
    return [
        Motion(every, way[:, : len(bodies), :2], way[:, : len(bodies), 2:], met)
        for (_, bodies), way, met in zip(worlds, ways, kept, strict=True)
    ]


Met = Iterator[tuple[int, float, tuple[int, ...]]]
"""Number of a world, speed at which something met there, and the numbers of its discs."""


class _Discs:
    """The discs of all worlds: W worlds of at most N; those that are too many never enter.

    Places and velocities are [2, W, N], all else is [W, N].
    """

    def __init__(self, worlds: Sequence[World], step: float):
        most = max(len(bodies) for _, bodies in worlds)
        shape = len(worlds), most
        self.radius, self.enters = np.ones(shape), np.full(shape, np.inf)
        self.place, self.velocity = np.zeros((2, *shape)), np.zeros((2, *shape))
        for world, (_, bodies) in enumerate(worlds):
            for number, body in enumerate(bodies):
                at = world, number
                self.radius[at], self.enters[at] = body.radius, body.enters
                self.place[:, *at], self.velocity[:, *at] = body.place, body.velocity
        pull, friction, elastic = (
            np.array([[getattr(scene, name)] * most for scene, _ in worlds])
            for name in ("gravity", "friction", "elastic")
        )
        self.step, self.pull, self.elastic = step, pull, elastic
        self.drop, self.faster, self.slower = 0.5 * pull * step**2, pull * step, friction * step
        self.lies = pull == 0.0  # in all of the picture
        self.low, self.high = self.radius, 1.0 - self.radius
        # From then on the edges across x and y hold it.
        self.inside = (self.place >= self.low) & (self.place <= self.high)
        pairs = np.array(list(itertools.combinations(range(most), 2)), np.int64).reshape(-1, 2)
        self.first, self.second = pairs.T
        self.reach = (self.radius[:, self.first] + self.radius[:, self.second]) ** 2

    def advance(self, moving: Flags) -> Met:
        """Move discs by a step; yields what met an edge."""
        place, velocity = self.place, self.velocity
        place += velocity * (self.step * moving)
        place[1] += self.drop * moving
        velocity[1] += self.faster * moving
        out = ((place > self.high) | (place < self.low)) & moving
        self.inside |= moving & ~out
        met = np.zeros(moving.shape)
        for axis, pull in enumerate((None, self.pull)):
            self._meet(axis, pull, np.nonzero(out[axis]), met)
        self._slow(moving & (self.lies | ((place[1] == self.high) & (velocity[1] == 0.0))))
        for world, number in zip(*np.nonzero(met), strict=True):
            yield int(world), float(met[world, number]), (int(number),)

    def _meet(self, axis: int, pull: Array | None, out: Chosen, met: Array) -> None:
        """Bounce off the edges across an axis; notes the speed of contact."""
        place, velocity = self.place[axis], self.velocity[axis]
        outward = np.where(place[out] > self.high[out], velocity[out], -velocity[out]) > 0.0
        if not outward.any():
            return
        out = out[0][outward], out[1][outward]
        at, speed, high = place[out], velocity[out], self.high[out]
        contact = np.abs(speed)
        if pull is not None:
            # What gravity added beyond the edge was never there: putting the disc back costs it.
            gained = 2.0 * pull[out] * np.maximum(0.0, at - high)
            contact = np.sqrt(np.maximum(0.0, speed * speed - gained))
        rebound = np.where(contact > _REST, self.elastic[out] * contact, 0.0)
        velocity[out] = np.where(speed > 0.0, -rebound, rebound)
        place[out] = np.where(self.inside[axis][out], np.clip(at, self.low[out], high), at)
        self.velocity[1 - axis][out] *= np.where(rebound > 0.0, _GRIP, 1.0)
        met[out] = np.maximum(met[out], contact)

    def _slow(self, chosen: Flags) -> None:
        """Take from the speed of discs that lie on something what friction does."""
        x, y = self.velocity
        speed = np.sqrt(x * x + y * y)
        chosen &= speed > 0.0
        kept = np.ones_like(speed)
        np.divide(speed - self.slower, speed, out=kept, where=chosen)
        self.velocity *= np.maximum(0.0, kept)

    def collide(self, moving: Flags) -> Met:
        """Let discs that overlap push each other; yields those that met."""
        x, y = self.place[:, :, self.second] - self.place[:, :, self.first]
        distance = x * x + y * y
        touching = (distance < self.reach) & (distance > 0.0)
        touching &= moving[:, self.first] & moving[:, self.second]
        for world, pair in zip(*np.nonzero(touching), strict=True):
            bodies = int(self.first[pair]), int(self.second[pair])
            apart = math.sqrt(distance[world, pair])
            speed = self._push(int(world), *bodies, x[world, pair] / apart, y[world, pair] / apart)
            if speed > 0.0:
                yield int(world), speed, bodies

    def _push(self, world: int, first: int, second: int, x: float, y: float) -> float:
        """Let two discs push each other along a line; returns the speed at which they met, or 0."""
        (ax, bx), (ay, by) = self.velocity[:, world, (first, second)].tolist()
        approach = (ax - bx) * x + (ay - by) * y
        if approach <= 0.0:
            return 0.0
        share = float(self.elastic[world, 0]) if approach > _REST else 0.0
        a, b = (self.radius[world, (first, second)] ** 2).tolist()
        push = (1.0 + share) * approach * a * b / (a + b)
        self.velocity[0, world, (first, second)] = ax - push / a * x, bx + push / b * x
        self.velocity[1, world, (first, second)] = ay - push / a * y, by + push / b * y
        return float(approach)
