"""Without Ray; whole workers run in ``tests/integration``."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.core import StorageError
from pipelines.decode.tokenizer import Tokenizer
from pipelines.shards.quarantine import read_quarantine
from tests.trainers.conftest import builder_of, reader_of, small_recipe, tables_of
from trainers.checkpoint import Staged, committed, publish
from trainers.core.engine import OptimizerConfig
from trainers.delivered import Delivered
from trainers.delivered import delivered as read_delivered
from trainers.hooks import RunHooks, quarantine_url, read_clock, view_pictures
from trainers.job import Job
from trainers.leaving import Leaving
from trainers.meter import Clock
from trainers.model import build_objective
from trainers.requests import Inbox
from trainers.retention import Retention
from trainers.torch_engine import TorchEngine


def test_views_are_shown_beside_their_originals() -> None:
    recipe = small_recipe(objective={"kind": "simclr"}, tokenizer=None)
    objective = build_objective(recipe, None)
    table = next(tables_of(recipe))
    batch = builder_of(recipe, objective, None)(table)
    rows = view_pictures(table, batch, objective.views)
    assert [cell.text for cell in rows[0].cells] == ["original", "a", "b"]
    data = base64.b64decode(rows[0].cells[0].image or "")
    original = np.asarray(Image.open(io.BytesIO(data)))
    flat = table["image"].combine_chunks().flatten().to_numpy()
    assert np.array_equal(original.reshape(-1), flat[: 16 * 16 * 3])
    # Where readers made the views, the pictures stayed with them.
    assert view_pictures(table.drop_columns(["image"]), batch, objective.views) == []


def test_of_a_repeated_sample_the_first_views_are_shown() -> None:
    again = {"objective": {"kind": "rotation"}, "tokenizer": None}
    shown = []
    for recipe in (small_recipe(**again), small_recipe(**again, repeats=2)):
        objective = build_objective(recipe, None)
        table = next(tables_of(recipe))
        batch = builder_of(recipe, objective, None)(table)
        assert len(batch) == recipe.repeats * len(table)
        shown.append(view_pictures(table, batch, objective.views))
    assert shown[0] == shown[1]


def test_of_films_the_first_frames_are_shown() -> None:
    recipe = small_recipe(
        data={
            "source": {"kind": "sprites", "samples": 16, "frames": 8, "size": 16},
            "decode": {"size": None, "video": {"frames": 8, "rate": 16, "size": 16}},
        },
        objective={
            "kind": "clip_contrast",
            "augmentation": {"kind": "none"},
            "frames": 8,
            "stride": 1,
        },
        tokenizer=None,
    )
    objective = build_objective(recipe, None)
    table = next(tables_of(recipe))
    rows = view_pictures(table, builder_of(recipe, objective, None)(table), objective.views)
    assert len(rows) == 6
    names = [cell.text for cell in rows[0].cells]
    assert names == ["original, first frame", "a, first frame", "b, first frame"]
    for number, row in enumerate(rows):
        film = table["video"][number].values.to_numpy()
        for cell in row.cells:  # without an augmentation, whole clips are all alike
            data = base64.b64decode(cell.image or "")
            picture = np.asarray(Image.open(io.BytesIO(data)))
            assert np.array_equal(picture.reshape(-1), film[: 16 * 16 * 3])


FAULTS = [
    {"shard": "a.tar", "key": "k", "reason": "broken"},
    {"shard": "b.tar", "key": "l", "reason": "cut short"},
]


def hooks_of(run: Path, **job: Any) -> RunHooks:
    """One worker's, of a small run."""
    recipe = small_recipe(objective={"kind": "rotation"}, tokenizer=None)
    engine = TorchEngine(build_objective(recipe, None), OptimizerConfig(), torch.device("cpu"))
    told = Job(run=str(run), folder="", recipe=recipe, **job)
    return RunHooks(told, engine, reader_of(recipe), None, 0, Leaving(engine, lambda: False))


def test_unreadable_samples_that_stop_a_run_are_kept(tmp_path: Path) -> None:
    with closing(hooks_of(tmp_path)) as hooks:
        hooks.quarantine(FAULTS)
    assert read_quarantine(quarantine_url(str(tmp_path))) == FAULTS


def test_they_are_kept_once_a_commit_that_is_being_written_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.train.report", lambda metrics: None)

    def slowly(staged: Staged, rank: int) -> None:
        time.sleep(0.2)
        publish(staged, rank)

    monkeypatch.setattr("trainers.hooks.publish", slowly)
    with closing(hooks_of(tmp_path)) as hooks:
        hooks.commit(64, Clock(), FAULTS[:1], 0, judged=False)
        assert committed(str(tmp_path)) == []
        hooks.quarantine(FAULTS[1:])
        assert committed(str(tmp_path)) == [64]
        assert read_quarantine(quarantine_url(str(tmp_path))) == FAULTS


def test_they_are_kept_where_the_last_commit_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.train.report", lambda metrics: None)

    def fails(staged: Staged, rank: int) -> None:
        raise StorageError("no space left")

    monkeypatch.setattr("trainers.hooks.publish", fails)
    with closing(hooks_of(tmp_path)) as hooks:
        hooks.commit(64, Clock(), [], 0, judged=False)
        hooks.quarantine(FAULTS)
    assert committed(str(tmp_path)) == []
    assert read_quarantine(quarantine_url(str(tmp_path))) == FAULTS


def held_back(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let no commit be written before the event is set."""
    go = threading.Event()

    def slowly(staged: Staged, rank: int) -> None:
        assert go.wait(10)
        publish(staged, rank)

    monkeypatch.setattr("trainers.hooks.publish", slowly)
    return go


def test_waiting_for_the_last_commit_is_no_hang_and_is_shared_by_all_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.train.report", lambda metrics: None)
    monkeypatch.setattr("trainers.hooks._AGAIN", 0.01)
    go, events = held_back(monkeypatch), list[object]()

    @contextmanager
    def leave() -> Iterator[None]:
        events.append("unwatched")
        yield
        events.append("watched")

    def ask(mine: object) -> list[object]:
        if not isinstance(mine, bool):
            return [mine]
        events.append(mine)
        if len(events) == 3:
            go.set()
        return [mine, events.count(False) < 2]  # another's is written after its own

    with closing(hooks_of(tmp_path)) as hooks:
        hooks.commit(64, Clock(), [], 0, judged=False)
        monkeypatch.setattr("trainers.hooks.unwatched", leave)
        monkeypatch.setattr("trainers.hooks.gather_objects", ask)
        hooks.commit(80, Clock(), [], 0, judged=False)
        assert events[:3] == ["unwatched", True, True]
        assert events[-3:] == [False, False, "watched"]
    assert committed(str(tmp_path)) == [64, 80]


@pytest.mark.parametrize("end", ["close", "quarantine"])
def test_a_run_that_ends_with_an_error_is_not_ended_for_the_upload_that_it_waits_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr("ray.train.report", lambda metrics: None)
    go, events = held_back(monkeypatch), list[object]()

    @contextmanager
    def leave() -> Iterator[None]:
        events.append(committed(str(tmp_path)))
        go.set()
        yield
        events.append(committed(str(tmp_path)))

    with closing(hooks_of(tmp_path)) as hooks:
        hooks.commit(64, Clock(), [], 0, judged=False)
        monkeypatch.setattr("trainers.hooks.unwatched", leave)
        if end == "quarantine":
            hooks.quarantine(FAULTS)
        else:
            hooks.close()
        assert events[:2] == [[], [64]]


def another_at_work(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What another worker will say, in turn, of whether it still writes its part."""
    others = [True, True, False]

    def ask(mine: object) -> list[object]:
        return [mine, others.pop(0)] if isinstance(mine, bool) else [mine]

    monkeypatch.setattr("trainers.hooks._AGAIN", 0.01)
    monkeypatch.setattr("trainers.hooks.gather_objects", ask)
    return others


def test_workers_that_all_stop_wait_for_each_others_part_of_the_last_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.train.report", lambda metrics: None)
    with closing(hooks_of(tmp_path)) as hooks:
        hooks.commit(64, Clock(), [], 0, judged=False)
        hooks._behind.wait(10.0)
        others = another_at_work(monkeypatch)
        hooks.settle()
    assert others == []


def test_who_failed_to_write_its_part_waits_for_the_others_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.train.report", lambda metrics: None)

    def fails(staged: Staged, rank: int) -> None:
        raise StorageError("no space left")

    monkeypatch.setattr("trainers.hooks.publish", fails)
    with closing(hooks_of(tmp_path)) as hooks:
        hooks.commit(64, Clock(), [], 0, judged=False)
        hooks._behind.wait(10.0)
        others = another_at_work(monkeypatch)
        hooks.quarantine(FAULTS)
    assert others == []
    assert read_quarantine(quarantine_url(str(tmp_path))) == FAULTS


def test_a_part_that_failed_is_told_by_who_failed_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.train.report", lambda metrics: None)
    monkeypatch.setattr("trainers.hooks._AGAIN", 0.01)

    def fails(staged: Staged, rank: int) -> None:
        raise StorageError("no space left")

    def ask(mine: object) -> list[object]:
        return [mine, True] if isinstance(mine, bool) else [mine]  # who waits for this part

    monkeypatch.setattr("trainers.hooks.publish", fails)
    with closing(hooks_of(tmp_path)) as hooks:
        hooks.commit(64, Clock(), [], 0, judged=False)
        monkeypatch.setattr("trainers.hooks.gather_objects", ask)
        with pytest.raises(StorageError, match="no space left"):
            hooks.commit(80, Clock(), [], 0, judged=False)


@pytest.mark.parametrize(("last", "left"), [(None, [64, 80]), (1, [80])])
def test_a_worker_removes_the_commits_that_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int | None, left: list[int]
) -> None:
    monkeypatch.setattr("ray.train.report", lambda metrics: None)
    with closing(hooks_of(tmp_path, keep=Retention(last=last))) as hooks:
        hooks.commit(64, Clock(), [], 0, judged=False)
        hooks.commit(80, Clock(), [], 0, judged=False)
    assert committed(str(tmp_path)) == left


def test_a_commit_files_everything_and_asks_for_evaluations(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("ray.train.report", lambda metrics: None)
    evaluations = [{"kind": "zero_shot", "name": "a", "data": "x.tar"}]
    recipe = small_recipe(evaluations=evaluations)
    tokenizer = Tokenizer.train(["red circle"], recipe.tokenizer)
    objective = build_objective(recipe, tokenizer)
    engine = TorchEngine(objective, OptimizerConfig(), torch.device("cpu"))
    job = Job(run=str(tmp_path), folder="/data", recipe=recipe)
    leaving = Leaving(engine, lambda: False)
    delivered = Delivered(0)
    hooks = RunHooks(job, engine, reader_of(recipe), tokenizer, 0, leaving, delivered)
    assert [table.num_rows for table in delivered.noted(tables_of(recipe))][:2] == [16, 16]
    hooks.log({"loss": 1.0}, 80)
    hooks.commit(64, Clock(train=2.0), [], 0, judged=False)
    # Once the first is written.
    pause = hooks.commit(80, Clock(train=3.0), FAULTS[:1], 7, judged=True)
    assert Inbox(str(tmp_path)).look() == []
    hooks.close()
    assert read_clock(str(tmp_path)).train == 3.0  # as if killed here
    hooks.finish(Clock(train=4.0))
    hooks.close()
    (request,) = Inbox(str(tmp_path)).look()
    assert (request.samples, request.folder) == (80, "/data")
    assert request.evaluations[0]["kind"] == "zero_shot"
    assert pause > 0
    assert read_quarantine(quarantine_url(str(tmp_path))) == FAULTS[:1]
    assert read_clock(str(tmp_path)).train == 4.0
    from trainers.checkpoint import Place, open_commit

    made = open_commit(request.checkpoint)
    assert made.digest == request.digest
    assert made.state().clock["train"] == 3.0
    assert made.state().unreadable == 7
    assert made.state().cursors == (Place(epoch=0, position=80),)
    assert sum(part.num_rows for part in read_delivered(str(tmp_path), 80)) == 160
    assert {"recipe.yaml", "tokenizer.json", "model.safetensors", "state.json"} < set(made.files)
