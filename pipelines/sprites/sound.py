"""The sound of a clip: a tone at every impact, and a hum that follows the largest sprite."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipelines.sprites.world import Motion

_PITCH = 64.0  # hertz times sides: the largest sprite's tone is near 350 Hz
_LENGTH = 0.25  # seconds of a tone, of which little is left by then
_DECAY = 0.04  # seconds in which it falls to 1/e
_LOUD = 0.6  # amplitude at a speed of ``_FAST``
_FAST = 2.0  # sides a second
_HUM = (80.0, 160.0)  # hertz at rest, and more of them for each side a second
_HUM_LOUD = 0.06
_NOISE = 0.003  # standard deviation

Samples = npt.NDArray[np.float32]


def make_sound(
    random: np.random.Generator, motion: Motion, radii: Sequence[float], fps: int, rate: int
) -> Samples:
    """Make the sound of a motion, from the first frame's time to the last one's end.

    An impact is a decaying tone that begins at its time: the smaller the sprite the
    higher, the faster the louder; a collision adds an overtone and the other's tone.

    Args:
        random: For the noise.
        motion: What happened.
        radii: Of its bodies; the first is the largest.
        fps: Pictures a second.
        rate: Samples a second.

    Returns:
        Samples in [-1, 1]. [N] float32
    """
    steps = len(motion.places)
    count = round(steps / (fps * motion.every) * rate)
    sound = _NOISE * random.standard_normal(count, np.float32)
    sound += _hum(np.hypot(*motion.velocities[:, 0].T), count, rate)
    for impact in motion.impacts:
        start = round(impact.time * rate)
        pitches = [_PITCH / radii[body] for body in impact.bodies]
        if len(pitches) > 1:
            pitches.append(2.5 * pitches[-1])
        loud = _LOUD * min(1.0, impact.speed / _FAST) / len(pitches)
        for pitch in pitches:
            tone = _tone(pitch, min(count - start, round(_LENGTH * rate)), rate)
            sound[start : start + len(tone)] += loud * tone
    np.clip(sound, -1.0, 1.0, out=sound)
    return sound


def _tone(pitch: float, count: int, rate: int) -> Samples:
    """A struck tone; silence where the pitch is above what the rate can carry."""
    if 2.0 * pitch >= rate:
        return np.zeros(0, np.float32)
    time = np.arange(max(0, count), dtype=np.float32) / rate
    # A cosine: it is loudest at its beginning, so that the impact's time can be heard.
    return np.asarray(np.cos(2.0 * math.pi * pitch * time) * np.exp(-time / _DECAY), np.float32)


def _hum(speeds: npt.NDArray[np.float64], count: int, rate: int) -> Samples:
    """A tone whose pitch and loudness follow a speed. [N] float32."""
    speed = np.interp(np.arange(count) * (len(speeds) / count), np.arange(len(speeds)), speeds)
    turns = np.cumsum((_HUM[0] + _HUM[1] * speed) / rate)
    turns -= np.floor(turns)
    loud = (_HUM_LOUD * np.minimum(1.0, speed)).astype(np.float32)
    return np.asarray(loud * np.sin(np.float32(2.0 * math.pi) * turns.astype(np.float32)))
