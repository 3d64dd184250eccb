"""A codec's cue tells the direction of time: the guard must keep a model from using it.

Films whose frames are blurred the more the longer their key frame is past, judged by pictures that
do not move but have the cue. ``tests/benchmarks/shortcuts.py`` keeps the figures.
"""

from __future__ import annotations

import pytest

from tests.benchmarks import shortcuts
from trainers.proxy import judge
from trainers.recipe import load_recipe

SAMPLES, JUDGED = 9600, 1024
ERROR = 0.5 / JUDGED**0.5


@pytest.mark.slow
@pytest.mark.parametrize("guard", ["none", "quality"])
def test_blur_after_key_frames_is_learned_from_unless_the_guard_drowns_it(guard: str) -> None:
    recipe = load_recipe(shortcuts.NAME, [*shortcuts.CHANGES, f"objective.guard.kind={guard}"])
    video = recipe.data.decode.video
    assert video is not None
    films = shortcuts.draw(recipe, SAMPLES, planted="keyframes")
    objective, build = shortcuts.train(recipe, films)
    moving = shortcuts.draw(recipe, JUDGED, **shortcuts.UNSEEN)
    still = shortcuts.still(moving, video.frames, video.size)
    clean, cue = (judge(objective, build, judged) for judged in (moving, still))
    share = cue.right / cue.examples
    if guard == "none":
        assert share > 0.5 + 4 * ERROR
    else:
        assert abs(share - 0.5) < 4 * ERROR
        assert clean.right / clean.examples > 0.8  # by what moves
