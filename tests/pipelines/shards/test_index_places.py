from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.core import StorageError
from pipelines.shards import index as module
from pipelines.shards import storage
from pipelines.shards.index import Index, open_index
from tests.s3.proxy import FaultProxy, Plan
from tests.s3.server import S3Server

pytest_plugins = ["tests.s3.fixtures"]


def keys(index: Index) -> list[str]:
    return [k for n in range(index.shards.num_rows) for k in index.keys(n).to_pylist()]


def refuse_writes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = storage.write_atomic

    def refuse(url: str, data: bytes) -> None:
        if url.startswith(str(folder)):
            raise StorageError(f"{url}: access refused")
        write(url, data)

    monkeypatch.setattr(module.storage, "write_atomic", refuse)


@pytest.fixture
def read_only(shards: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    refuse_writes(shards, monkeypatch)
    return shards


def test_a_read_only_data_set_keeps_its_index_in_the_fallback(read_only, tmp_path, scan):
    fallback = str(tmp_path / "run")
    first = open_index(f"{read_only}/*.tar", fallback, scan)
    assert len(scan.take()) == 3
    assert open_index(f"{read_only}/*.tar", fallback, scan).digest == first.digest
    assert scan.take() == []
    assert not (read_only / "_eagleray").exists()


def test_a_read_only_data_set_with_an_old_index_is_scanned_once_more_only(
    shards, monkeypatch, tmp_path, scan, make_tar
):
    open_index(f"{shards}/*.tar")
    make_tar(shards / "train-3.tar", {"new": {"txt": b"added later"}})
    refuse_writes(shards, monkeypatch)
    for expected in (["train-3.tar"], []):
        index = open_index(f"{shards}/*.tar", str(tmp_path / "run"), scan)
        assert scan.take() == expected
        assert keys(index)[-1] == "new"


def test_without_a_fallback_a_read_only_data_set_is_indexed_in_memory(read_only, scan):
    assert len(open_index(f"{read_only}/*.tar", None, scan)) == 8
    assert len(open_index(f"{read_only}/*.tar", None, scan)) == 8
    assert len(scan.take()) == 6


# --- a bucket of which only the shards may be read -----------------------------------------


@pytest.fixture
def bucket(s3_server: S3Server, faults: FaultProxy, tar_bytes) -> str:
    """Ten shards in a bucket that may not be listed, and that refuses what is not there."""
    url = s3_server.make_bucket("closed") if not storage.exists("s3://closed") else "s3://closed"
    for number in range(10):
        storage.write_atomic(f"{url}/s-{number}.tar", tar_bytes([(f"{number}.txt", b"1")]))
    faults.plan = Plan(["403"], touches=lambda _, target: "list-type" in target or "_eag" in target)
    return url


@pytest.mark.parametrize("pattern", ["s-{0..2}.tar", "s-{0..9}.tar"])
def test_a_bucket_that_may_not_be_listed_keeps_its_index_in_the_fallback(
    bucket, tmp_path, scan, pattern
):
    fallback = str(tmp_path / "run")
    first = open_index(f"{bucket}/{pattern}", fallback, scan)
    assert len(scan.take()) == len(first)
    again = open_index(f"{bucket}/{pattern}", fallback, scan)
    assert scan.take() == []
    assert keys(again) == keys(first) == [str(number) for number in range(len(first))]


def test_such_a_bucket_is_indexed_in_memory_without_a_fallback(bucket):
    assert len(open_index(f"{bucket}/s-{{0..9}}.tar")) == 10


@pytest.mark.parametrize(
    ("pattern", "refused"),
    [
        ("s-*.tar", lambda _, target: "list-type" in target),
        ("s-{0..2}.tar", lambda *_: True),
        ("s-{0..9}.tar", lambda *_: True),
        ("s-{0..9}.tar", lambda method, _: method == "GET"),
    ],
)
def test_shards_that_are_refused_are_an_error(
    bucket, faults: FaultProxy, tmp_path, pattern, refused: Callable[[str, str], bool]
):
    faults.plan = Plan(["403"], touches=refused)
    with pytest.raises(StorageError, match="access refused; check permissions or credentials"):
        open_index(f"{bucket}/{pattern}", str(tmp_path))


def test_a_refused_fallback_is_an_error(read_only, tmp_path, monkeypatch):
    def exists(url: str) -> bool:
        if url.startswith(f"{tmp_path}/run"):
            raise storage.RefusedError(f"{url}: access refused")
        return False

    monkeypatch.setattr(storage, "exists", exists)
    with pytest.raises(StorageError, match="access refused"):
        open_index(f"{read_only}/*.tar", f"{tmp_path}/run")


def test_entries_of_shipped_tars_travel_with_the_index(scan):
    """A node unpacks its own copies: what one writes beside them, no other finds."""
    before = storage.names("eagleray://emoji")
    found = open_index("eagleray://emoji/emoji-unseen-*.tar", "memory://run", scan)
    assert scan.take() == []  # not by tasks, which may be on another node
    assert set(found.shards["entries"].to_pylist()) == {""}
    copy = pickle.loads(pickle.dumps(found))
    assert copy.spans(0).shape == (2, len(copy))
    assert storage.names("eagleray://emoji") == before
    assert not storage.exists("memory://run/_eagleray")
