from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from pipelines.core.batch import Batch
from pipelines.reader import DataConfig, Reader, Share, open_source
from pipelines.reader_config import ReaderConfig
from pipelines.shards import index
from pipelines.shards.entries import scan_shard
from pipelines.stream import stream_here
from pipelines.views import (
    AudioPresentView,
    AudioView,
    ClipView,
    FilmFramesView,
    IdentityView,
    ImageView,
    LongEnoughView,
    ViewBuilder,
)
from trainers.checkpoint import Commit, State, publish, stage
from trainers.core.engine import Engine
from trainers.core.objective import Objective, Surroundings
from trainers.recipe import Recipe, parse_recipe

CLIP_TOWERS = {
    "image": {"kind": "convnext", "widths": [8, 16], "depths": [1, 1], "patch": 4},
    "text": {"kind": "bag_of_tokens", "width": 16},
}
SMALL_TOWERS = {
    **CLIP_TOWERS,
    "video": {
        "kind": "frame_transformer",
        "image": {"kind": "convnext", "widths": [8, 16], "depths": [1, 1], "patch": 4},
        "width": 16,
        "layers": 1,
        "heads": 2,
    },
    "audio": {"kind": "mel_transformer", "width": 16, "layers": 1, "heads": 2},
}
AROUND = Surroundings(
    size=16,
    vocabulary=280,
    length=8,
    frames=32,
    frame_size=16,
    frame_rate=16.0,
    sound=4000,
    sound_rate=2000,
)


def small_recipe(**changes: object) -> Recipe:
    data = {
        "name": "small",
        "data": {
            "source": {"kind": "synthetic", "samples": 96, "size": 16},
            "decode": {"size": 16, "text": {"caption": "txt"}},
        },
        "tokenizer": {"vocabulary": 280, "length": 8},
        "objective": {"kind": "clip", **CLIP_TOWERS, "dimensions": 16},
        "optimizer": {"learning_rate": 0.003, "warmup": 32},
        "global_batch": 16,
        "samples": 160,
        "commit_every": 80,
        "log_every": 1,
        **changes,
    }
    return parse_recipe(data, "small")


def reader_of(recipe: Recipe) -> Reader:
    data: DataConfig = recipe.data
    return Reader(open_source(data.source), data, recipe.seed)


def tables_of(recipe: Recipe, rank: int = 0, workers: int = 1, start: int = 0):
    share = Share(recipe.global_batch, rank, workers, start, recipe.steps)
    return stream_here(reader_of(recipe), share, ReaderConfig())


def builder_of(recipe: Recipe, objective: Objective, tokenizer) -> ViewBuilder:
    size = recipe.data.decode.size
    device = torch.device("cpu")
    return ViewBuilder(objective.views, recipe.seed, size, tokenizer, device, recipe.repeats)


def random_batch(objective: Objective, count: int, size: int, seed: int = 0) -> Batch:
    """Views of the right kinds, filled with random numbers."""
    random = torch.Generator().manual_seed(seed)
    views = {}
    for name, view in objective.views.items():
        if isinstance(view, ImageView):
            views[name] = torch.rand(count, 3, size, size, generator=random) * 2 - 1
        elif isinstance(view, IdentityView):
            views[name] = torch.randint(0, max(2, count // 2), (count,), generator=random)
        elif isinstance(view, ClipView):
            shape = count, view.frames or AROUND.frames, 3, size, size
            views[name] = torch.rand(shape, generator=random) * 2 - 1
        elif isinstance(view, AudioView):
            views[name] = torch.rand(count, AROUND.sound, generator=random) * 2 - 1
        elif isinstance(view, AudioPresentView):
            views[name] = torch.arange(count) % 4 != 1
        elif isinstance(view, FilmFramesView):
            views[name] = AROUND.frames - 6 * (torch.arange(count) % 3)
        elif isinstance(view, LongEnoughView):
            views[name] = torch.arange(count) % 3 != 1
        else:
            views[name] = torch.randint(3, 200, (count, 8), generator=random)
            ends = 2 + (torch.arange(count) * 3) % 5
            views[name][torch.arange(count), ends] = 2
            views[name][torch.arange(8) > ends[:, None]] = 0
    keys = torch.randint(-(2**62), 2**62, (count,), generator=random)
    return Batch(torch.arange(count), keys, views)


@pytest.fixture
def recipe() -> Recipe:
    return small_recipe()


def make_commit(run: str, engine: Engine, state: State, texts: Mapping[str, str]) -> Commit:
    """One worker's checkpoint, complete."""
    staged = stage(run, engine, state, texts)
    publish(staged, 0)
    return staged.commit


@pytest.fixture
def scanned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Shards that were scanned; their indexes can be kept in ``tmp_path / "run"`` alone."""
    found, writable, run = list[str](), index._writable, str(tmp_path / "run")

    def scan(url: str, stamp: str) -> object:
        found.append(url)
        return scan_shard(url, stamp)

    monkeypatch.setattr(index, "scan_shard", scan)
    monkeypatch.setattr(index, "_writable", lambda folder: run in folder and writable(folder))
    return found
