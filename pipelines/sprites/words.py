"""What is said of a clip: its caption and its labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.sprites.cast import Cast
from pipelines.sprites.cutouts import Cutout
from pipelines.sprites.world import Motion

_TIMES = {1: "once", 2: "twice"}


def caption(cast: Cast, sprites: Sequence[Cutout], motion: Motion) -> str:
    """Say what happens, such as "a whale falls in from the left, bounces twice and hits a bus"."""
    verb = "falls" if cast.scene.name == "fall" else "slides"
    main = f"{_one(sprites[0])} {verb} in from the {cast.side}"
    hit = [i.bodies[1] for i in motion.impacts if len(i.bodies) == 2 and i.bodies[0] == 0]
    bounces = sum(impact.bodies == (0,) for impact in motion.impacts)
    deeds = []
    if bounces:
        deeds.append(f"bounces {_TIMES.get(bounces, f'{bounces} times')}")
    if hit:
        deeds.append(f"hits {_one(sprites[hit[0]])}")
    if deeds:
        main += ", " + " and ".join(deeds)
    others = [_one(sprite) for number, sprite in enumerate(sprites) if number not in (0, *hit[:1])]
    return f"{main}, with {' and '.join(others)}" if others else main


def labels(cast: Cast, sprites: Sequence[Cutout], motion: Motion) -> Mapping[str, Any]:
    """Labels of a clip, for evaluations.

    Returns:
        ``label`` and ``group`` of the largest sprite, ``names`` of all, ``sprites`` (how
        many), ``scene``, ``side`` they enter from, ``bounces`` off edges, ``collisions``,
        and ``impacts``: the times of both, in seconds.
    """
    collisions = sum(len(impact.bodies) == 2 for impact in motion.impacts)
    return {
        "label": sprites[0].name,
        "group": sprites[0].group,
        "names": [sprite.name for sprite in sprites],
        "sprites": len(sprites),
        "scene": cast.scene.name,
        "side": cast.side,
        "bounces": len(motion.impacts) - collisions,
        "collisions": collisions,
        "impacts": [round(impact.time, 4) for impact in motion.impacts],
    }


def _one(sprite: Cutout) -> str:
    article = "an" if sprite.name[:1].lower() in "aeiou" else "a"
    return f"{article} {sprite.name}"
