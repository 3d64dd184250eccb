"""Whether arrow_of_time goes by how films are coded: without its guard, and with it.

Run as ``python -m tests.benchmarks.shortcuts [SAMPLES]``. All films of training are blurred the
more the longer ago their key frame is (``planted: keyframes``), as a poor encoder does. Towers
are trained on films that move and on still pictures, which nothing but the cue gives a direction,
and judged on emoji that no film of training has:

- ``planted``: films with the cue,
- ``clean``: the same films without it,
- ``still``: pictures that do not move, with the cue. Above one half, a tower goes by it.

What was measured is written to ``shortcuts.md`` beside this file.
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from pipelines.reader import Reader, Share, open_source
from pipelines.reader_config import ReaderConfig
from pipelines.sprites.draw import plant_keyframes
from pipelines.stream import stream_here
from pipelines.tables import array
from pipelines.views import ViewBuilder
from trainers.core.objective import Objective
from trainers.model import build_objective
from trainers.optimizers import build_optimizer, set_rate
from trainers.proxy import judge
from trainers.recipe import Recipe, load_recipe
from trainers.schedule import learning_rate

NAME = "arrow-of-time-sprites"
CHANGES = ["evaluations=[]", "repeats=1", "global_batch=32"]  # films seen once
UNSEEN = {"pictures": "eagleray://emoji/emoji-unseen-*.tar", "seed": 1}
_SAMPLES = 9600
_JUDGED = 1024
_WARMUP = 0.1  # of the samples
_HEAD = """\
# Whether arrow_of_time goes by a codec's cue

Made by `python -m tests.benchmarks.shortcuts {samples}` on {date}. A cue is planted in films: a
frame is blurred the more the longer its key frame is past. Towers are trained on films that move
and have the cue, and on still pictures with it, which nothing else gives a direction; without a
guard, and with the recipe's (`quality`, drawn anew for each frame). Directions told right of
{judged:,} films of unseen emoji, in %, chance 50 (3 either way): *planted* move and have the cue,
*clean* move, *still* have the cue alone. More than half of *still* is the shortcut. The guard
drowns the cue beside what moves; it does not remove it, as the last row shows.

| guard | trained on | planted | clean | still |
| --- | --- | --- | --- | --- |
"""
Tables = Sequence[pa.Table]


def draw(recipe: Recipe, count: int, **changes: object) -> Tables:
    """Draw and decode films, in batches."""
    source = recipe.data.source.model_copy(update={"samples": count, **changes})
    reader = Reader(open_source(source), recipe.data, recipe.seed)
    share = Share(recipe.global_batch, 0, 1, 0, count // recipe.global_batch)
    return list(stream_here(reader, share, ReaderConfig()))


def still(tables: Tables, frames: int, size: int) -> Tables:
    """Show each film's middle frame all the time, with the cue."""
    changed = []
    for table in tables:
        shape = (frames, size, size, 3)
        stored = array(table, "video", {"video": (shape, np.dtype(np.uint8))})
        held = np.repeat(stored[:, frames // 2 : frames // 2 + 1], frames, axis=1)
        for film in held:
            plant_keyframes(film)
        column = pa.FixedSizeListArray.from_arrays(pa.array(held.reshape(-1)), held[0].size)
        place = table.column_names.index("video")
        changed.append(table.set_column(place, "video", column))
    return changed


def train(recipe: Recipe, tables: Tables) -> tuple[Objective, ViewBuilder]:
    """Train in this process, with the rate falling to 0."""
    torch.manual_seed(recipe.seed)
    objective = build_objective(recipe, None)
    build = ViewBuilder(objective.views, recipe.seed, None, None, torch.device("cpu"))
    optimizer = build_optimizer(objective, recipe.optimizer, torch.device("cpu"))
    total = len(tables) * recipe.global_batch
    config = recipe.optimizer.model_copy(update={"warmup": int(_WARMUP * total)})
    for step, table in enumerate(tables, 1):
        set_rate(optimizer, learning_rate(config, step * recipe.global_batch, total))
        objective(build(table)).loss.backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), config.clip)
        optimizer.step()
        optimizer.zero_grad()
    return objective.eval(), build


def main(samples: int) -> None:
    """Train all four towers and print what each gets right."""
    recipe = load_recipe(NAME, CHANGES)
    video = recipe.data.decode.video
    assert video is not None
    clean = draw(recipe, _JUDGED, **UNSEEN)
    judged = {
        "planted": draw(recipe, _JUDGED, planted="keyframes", **UNSEEN),
        "clean": clean,
        "still": still(clean, video.frames, video.size),
    }
    trained = {
        "moving": draw(recipe, samples, planted="keyframes"),
        "still": still(draw(recipe, samples), video.frames, video.size),
    }
    rows = []
    for guard in ("none", "quality"):
        guarded = load_recipe(NAME, [*CHANGES, f"objective.guard.kind={guard}"])
        for name, tables in trained.items():
            objective, build = train(guarded, tables)
            found = [judge(objective, build, films) for films in judged.values()]
            shares = [f"{100 * answers.right / answers.examples:.1f}" for answers in found]
            rows.append(f"| {' | '.join((guard, name, *shares))} |\n")
            print(rows[-1], end="", flush=True)
    date = datetime.date.today().isoformat()
    head = _HEAD.format(samples=samples, date=date, judged=_JUDGED)
    Path(__file__).with_suffix(".md").write_text(head + "".join(rows))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else _SAMPLES)
