from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from pipelines.core import StorageError
from pipelines.shards import storage
from tests.trainers.conftest import SMALL_TOWERS, make_commit, random_batch
from trainers import checkpoint
from trainers.checkpoint import (
    MANIFEST,
    MODEL,
    Commit,
    Place,
    Staged,
    State,
    commit_at,
    committed,
    discard_abandoned,
    find,
    latest,
    newest,
    open_commit,
    publish,
    stage,
)
from trainers.core.engine import OptimizerConfig
from trainers.core.objective import Surroundings
from trainers.objectives.rotation import Rotation
from trainers.staging import sweep
from trainers.torch_engine import TorchEngine


def engine(seed: int = 0) -> TorchEngine:
    from trainers.models import TOWERS

    torch.manual_seed(seed)
    config = Rotation.Config(image=TOWERS.parse(SMALL_TOWERS["image"]))
    objective = Rotation(config, Surroundings(size=16))
    return TorchEngine(objective, OptimizerConfig(), torch.device("cpu"))


def state(samples: int) -> State:
    return State(
        samples=samples,
        cursors=(Place(epoch=0, position=samples),),
        clock={"train": 1.5},
        world_size=1,
        zero_stage=0,
        recipe="r",
        data="d",
    )


def make(run: Path | str, samples: int, an_engine: TorchEngine | None = None) -> Commit:
    return make_commit(
        str(run), an_engine or engine(), state(samples), {"recipe.yaml": "name: x\n"}
    )


def test_what_is_committed_comes_back(tmp_path: Path) -> None:
    trained = engine(0)
    batch = random_batch(trained.objective, 8, 16)
    trained.step(batch, 1e-3)
    make(tmp_path, 64, trained)
    found = latest(str(tmp_path))
    assert found is not None
    assert found.samples == 64
    assert found.state() == state(64)
    assert found.read("recipe.yaml") == b"name: x\n"
    other = engine(1)
    folder = tmp_path / "fetched"
    folder.mkdir()
    found.fetch_engine(folder)
    other.load(folder)
    a, b = trained.step(batch, 1e-3), other.step(batch, 1e-3)
    assert a.output.loss.item() == b.output.loss.item()
    for one, two in zip(trained.objective.parameters(), other.objective.parameters(), strict=True):
        assert torch.equal(one, two)


def test_the_newest_complete_one_is_chosen(tmp_path: Path) -> None:
    for samples in (64, 128, 1024):
        make(tmp_path, samples)
    assert committed(str(tmp_path)) == [64, 128, 1024]
    (tmp_path / "checkpoints" / f"{1024:012d}" / MANIFEST).unlink()
    found = latest(str(tmp_path))
    assert found is not None
    assert found.samples == 128


def test_nothing_is_found_where_nothing_was_committed(tmp_path: Path) -> None:
    assert latest(str(tmp_path)) is None


def test_of_many_commits_the_store_is_asked_for_the_newest_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert newest(str(tmp_path)) == 0
    for samples in (64, 128, 192):
        make(tmp_path, samples)
    storage.remove(f"{tmp_path}/checkpoints/{192:012d}/manifest.json")
    asked, exists = [], storage.exists

    def counted(url: str) -> bool:
        asked.append(url)
        return exists(url)

    monkeypatch.setattr(storage, "exists", counted)
    assert newest(str(tmp_path)) == 128
    assert len(asked) == 2


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("survives", range(6))
def test_killed_at_any_write_no_half_checkpoint_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survives: int
) -> None:
    make(tmp_path, 64)
    left = [survives]
    real_move, real_write = storage.move_in, storage.write_atomic

    def dying(real):  # type: ignore[no-untyped-def]
        def call(*args):  # type: ignore[no-untyped-def]
            if left[0] == 0:
                raise _Killed
            left[0] -= 1
            return real(*args)

        return call

    monkeypatch.setattr(storage, "move_in", dying(real_move))
    monkeypatch.setattr(storage, "write_atomic", dying(real_write))
    try:
        make(tmp_path, 128)
        whole = True
    except _Killed:
        whole = False
    assert whole == (survives >= 5)  # engine, weights, recipe, state, then the manifest
    found = latest(str(tmp_path))
    assert found is not None
    assert found.samples == (128 if whole else 64)
    found.read(MODEL)
    monkeypatch.undo()
    make(tmp_path, 128)  # the same commit can be made again over what was left
    assert committed(str(tmp_path)) == [64, 128]


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("shutil.move", OSError(28, "No space left on device")),
        (
            "trainers.tensor_file.save_file",
            SafetensorError("I/O error: No space left on device (os error 28)"),
        ),
    ],
)
def test_a_full_disk_is_one_line_and_the_last_commit_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, error: Exception
) -> None:
    make(tmp_path, 64)

    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(where, full)
    with pytest.raises(StorageError, match=r"disk is full; free some space .* nothing is lost"):
        make(tmp_path, 128)
    assert committed(str(tmp_path)) == [64]
    assert not list((tmp_path / "checkpoints" / ".staging").iterdir())


@pytest.mark.parametrize("name", [MODEL, "state.json", "recipe.yaml", "engine/torch.pt"])
def test_a_changed_file_is_refused_before_it_is_used(tmp_path: Path, name: str) -> None:
    found = make(tmp_path, 64)
    path = Path(found.url) / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(StorageError, match="differs from its manifest"):
        found.read(name)
    if name.startswith("engine/"):
        with pytest.raises(StorageError):
            found.fetch_engine(tmp_path / "fetched")


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        "[]",
        '{"samples": 1}',
        json.dumps({"samples": 1, "files": {"../../evil": {"sha256": "0", "size": 1}}}),
        json.dumps({"samples": 1, "files": {"/etc/passwd": {"sha256": "0", "size": 1}}}),
        '{"samples": 1, "files": {"a": {"sha256": "0", "size": 1e999}}}',
        '{"samples": 1e999, "files": {}}',
        "[" * 100_000,
    ],
)
def test_a_damaged_manifest_is_refused(tmp_path: Path, content: str) -> None:
    found = make(tmp_path, 64)
    (Path(found.url) / MANIFEST).write_text(content)
    with pytest.raises(StorageError, match="damaged"):
        open_commit(found.url)


def written(commit: Commit, name: str, data: bytes) -> Commit:
    """A commit with another file, as its manifest says."""
    path = Path(commit.url) / MANIFEST
    manifest = json.loads(path.read_text())
    digest = hashlib.sha256(data).hexdigest()
    manifest["files"][name] = {"sha256": digest, "size": len(data)}
    path.write_text(json.dumps(manifest))
    (Path(commit.url) / name).write_bytes(data)
    return open_commit(commit.url)


@pytest.mark.parametrize(
    "content", [b"not json", b"[1]", b"{}", b'{"samples": 1e999}', b"[" * 100_000, b"\xff\xfe"]
)
def test_a_state_of_another_form_is_refused(tmp_path: Path, content: bytes) -> None:
    found = written(make(tmp_path, 64), "state.json", content)
    with pytest.raises(StorageError) as caught:
        found.state()
    assert str(caught.value) == (
        f"{found.url}/state.json: damaged or of another version; use another commit"
    )


@pytest.mark.parametrize("name", ["recipe.yaml", "tokenizer.json"])
def test_a_text_that_is_not_utf_8_is_refused(tmp_path: Path, name: str) -> None:
    found = written(make(tmp_path, 64), name, b"name: \xff\xfe")
    with pytest.raises(StorageError) as caught:
        found.read_text(name)
    assert str(caught.value) == f"{found.url}/{name}: not UTF-8 text; use another commit"


def test_no_checkpoint_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="RUN/checkpoints/<samples>"):
        open_commit(str(tmp_path))


def test_commits_go_to_any_filesystem() -> None:
    run = "memory://runs/one"
    make(run, 64)
    assert committed(run) == [64]
    assert commit_at(run, 64).state().samples == 64


def _of_two(run: Path, samples: int, monkeypatch: pytest.MonkeyPatch) -> list[Staged]:
    """What each of two workers stages."""
    found = []
    for rank in range(2):
        monkeypatch.setattr(checkpoint, "world", lambda rank=rank: (rank, 2))
        found.append(stage(str(run), engine(rank), state(samples), {}))
    return found


def test_a_checkpoint_counts_once_every_workers_part_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = _of_two(tmp_path, 64, monkeypatch)
    (other.folder.path / "engine" / "torch.pt").rename(other.folder.path / "engine" / "other.pt")
    parts = [dict(mine.parts[0]), {"engine/other.pt": other.parts[0]["engine/torch.pt"]}]
    mine, other = replace(mine, parts=parts), replace(other, parts=parts)
    url = storage.join(mine.commit.url, "part-00001.sha256")
    storage.write_text(url, "of an attempt that died")
    first = threading.Thread(target=publish, args=(mine, 0))
    first.start()
    time.sleep(0.1)
    assert committed(str(tmp_path)) == []
    publish(other, 1)
    first.join()
    assert committed(str(tmp_path)) == [64]
    assert not storage.exists(url)


def test_a_part_that_never_comes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, _ = _of_two(tmp_path, 64, monkeypatch)
    lonely = replace(mine, parts=[*mine.parts, {"engine/other.pt": {"sha256": "0", "size": 1}}])
    with pytest.raises(StorageError, match="part of the checkpoint never came"):
        publish(lonely, 0, patience=0.05)
    assert committed(str(tmp_path)) == []


def test_a_full_disk_is_told_where_a_commit_is_fetched_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(tmp_path / "run", 64)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match=f"{tmp_path}/fetched/.*full"):
        made.fetch_engine(tmp_path / "fetched")


@pytest.mark.parametrize("where", ["disk", "memory"])
def test_commits_that_were_never_completed_are_removed(tmp_path: Path, where: str) -> None:
    run = str(tmp_path) if where == "disk" else "memory://runs/abandoned"
    for samples in (64, 128, 192):
        make(run, samples)
    for samples in (64, 192):
        storage.remove(f"{run}/checkpoints/{samples:012d}/manifest.json")
    storage.write_text(f"{run}/checkpoints/notes/mine.txt", "x")
    discard_abandoned(run)
    left = [name for name in storage.names(f"{run}/checkpoints") if name[0] != "."]
    assert left == ["000000000128", "notes"]
    assert commit_at(run, 128).state().samples == 128


def test_who_may_not_list_uploads_may_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuses(url: str) -> None:
        raise StorageError(f"{url}: access refused")

    make(tmp_path, 64)
    storage.remove(f"{tmp_path}/checkpoints/{64:012d}/manifest.json")
    monkeypatch.setattr(storage, "remove_unfinished", refuses)
    with caplog.at_level(logging.WARNING, "trainers.checkpoint"):
        discard_abandoned(str(tmp_path))
    assert "may be left" in caplog.text
    assert [n for n in storage.names(f"{tmp_path}/checkpoints") if n[0] != "."] == []


def test_what_killed_workers_staged_is_swept_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, 64, engine(0))
    _of_two(tmp_path, 128, monkeypatch)  # and never published
    sweep(str(tmp_path))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["000000000064"]
    sweep(str(tmp_path / "new"))
    sweep("memory://elsewhere")


@pytest.mark.parametrize("name", ["000000000064", "64", "64/"])
def test_a_commit_is_found_by_its_samples(tmp_path: Path, name: str) -> None:
    make(tmp_path, 64)
    make(tmp_path, 128)
    assert find(f"{tmp_path}/checkpoints/{name}").samples == 64
    assert find(str(tmp_path)).samples == 128
