from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core import DataError, StorageError
from pipelines.shards import index as module
from pipelines.shards import storage
from pipelines.shards.index import (
    Index,
    Shard,
    build_index,
    open_index,
    scan_here,
    scan_shard,
)


class Counting:
    """A scan that remembers which shards it was asked for."""

    def __init__(self) -> None:
        self.urls: list[str] = []

    def __call__(self, urls: Sequence[str]) -> list[tuple[Shard, pa.Table]]:
        self.urls += [url.rpartition("/")[2] for url in urls]
        # In another order than asked: the caller may not rely on it.
        return list(scan_here(urls))[::-1]

    def take(self) -> list[str]:
        taken, self.urls = sorted(self.urls), []
        return taken


@pytest.fixture
def scan() -> Counting:
    return Counting()


@pytest.fixture
def shards(tmp_path: Path, make_tar) -> Path:
    """Shards of 3, 1 and 4 samples with one text and one number each."""
    for number, count in enumerate([3, 1, 4]):
        samples = {
            f"{number}-{i}": {"txt": f"text {number} {i}".encode(), "cls": b"%d" % i}
            for i in range(count)
        }
        make_tar(tmp_path / "data" / f"train-{number}.tar", samples)
    return tmp_path / "data"


def members(index: Index, sample: int) -> dict[str, bytes]:
    (entry,) = index.entries(np.array([sample]))
    data = Path(index.shards[entry.shard].url).read_bytes()
    return {ext: data[offset : offset + size] for ext, offset, size in entry.members}


def test_an_index_gives_every_sample_its_place(shards):
    index = open_index(f"{shards}/*.tar")
    assert len(index) == 8
    assert [shard.samples for shard in index.shards] == [3, 1, 4]
    entries = index.entries(np.array([7, 0, 3, 3]))
    assert [entry.key for entry in entries] == ["2-3", "0-0", "1-0", "1-0"]
    assert members(index, 3) == {"txt": b"text 1 0", "cls": b"0"}
    assert members(index, 7) == {"txt": b"text 2 3", "cls": b"3"}
    for shard in index.shards:
        data = Path(shard.url).read_bytes()
        assert (shard.size, shard.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert shard.fault is None


def test_neighbouring_members_with_one_key_are_one_sample(tmp_path, tar_bytes):
    names = ["a.jpg", "a.txt", "a.seg.png", "readme", "b.jpg", "dir/b.jpg", "a.jpg"]
    file = tmp_path / "x.tar"
    file.write_bytes(tar_bytes([(name, b"1") for name in names]))
    shard, table = scan_shard(str(file))
    assert table["key"].to_pylist() == ["a", "b", "dir/b", "a"]
    assert table["extensions"].to_pylist()[0] == ["jpg", "txt", "seg.png"]
    assert shard.samples == 4


def test_a_file_without_extension_does_not_cut_a_sample_in_two(tmp_path, tar_bytes):
    names = ["a.jpg", "LICENSE", "a.txt"]
    file = tmp_path / "x.tar"
    file.write_bytes(tar_bytes([(name, b"1") for name in names]))
    assert scan_shard(str(file))[1]["extensions"].to_pylist() == [["jpg", "txt"]]


def test_what_macos_adds_to_a_tar_is_neither_a_sample_nor_a_cut(tmp_path, tar_bytes):
    names = ["./._a.jpg", "./a.jpg", "./._a.txt", "./a.txt", "./.DS_Store"]
    file = tmp_path / "x.tar"
    file.write_bytes(tar_bytes([(name, b"1") for name in names]))
    _, table = scan_shard(str(file))
    assert table["key"].to_pylist() == ["./a"]
    assert table["extensions"].to_pylist() == [["jpg", "txt"]]


def test_a_damaged_tail_keeps_what_came_before_it(shards):
    file = shards / "train-2.tar"
    file.write_bytes(file.read_bytes()[: 4 * 1024 + 100])
    index = open_index(f"{shards}/*.tar")
    assert [shard.samples for shard in index.shards] == [3, 1, 2]
    assert index.shards[2].fault == "truncated in a header"


@given(st.lists(st.integers(0, 20), min_size=1, max_size=8), st.integers(1, 9))
def test_chunks_are_runs_of_one_shard(samples, size):
    table = pa.table({"shard": pa.array([], pa.int32())})
    shards = tuple(Shard(f"/{i}", "", 0, "", count) for i, count in enumerate(samples))
    chunks = Index(shards, table).chunks(size)
    assert chunks.dtype == np.int64
    assert chunks.sum() == sum(samples)
    assert all(0 < chunk <= size for chunk in chunks)
    ends = set(np.cumsum(chunks).tolist())
    assert set(np.cumsum([count for count in samples if count]).tolist()) <= ends
    assert len(chunks) == sum(-(-count // size) for count in samples)


def test_an_index_round_trips_through_bytes(shards):
    index = open_index(f"{shards}/*.tar")
    again = Index.from_bytes(index.to_bytes(), "here")
    assert again.shards == index.shards
    assert again.table.equals(index.table)
    assert again.digest == index.digest


def test_the_second_opening_scans_nothing(shards, scan):
    first = open_index(f"{shards}/*.tar", scan=scan)
    assert scan.take() == ["train-0.tar", "train-1.tar", "train-2.tar"]
    second = open_index(f"{shards}/*.tar", scan=scan)
    assert scan.take() == []
    assert second.shards == first.shards
    assert second.table.equals(first.table)


def test_an_unchanged_index_is_not_written_again(shards, monkeypatch):
    open_index(f"{shards}/*.tar")
    monkeypatch.setattr(storage, "write_atomic", lambda *_: pytest.fail("written again"))
    open_index(f"{shards}/*.tar")


def test_only_new_and_changed_shards_are_scanned_again(shards, scan, make_tar):
    open_index(f"{shards}/*.tar", scan=scan)
    scan.take()
    make_tar(shards / "train-00.tar", {"new": {"txt": b"added between the others"}})
    make_tar(shards / "train-1.tar", {"x": {"txt": b"changed"}, "y": {"txt": b"more"}})
    refreshed = open_index(f"{shards}/*.tar", scan=scan)
    assert scan.take() == ["train-00.tar", "train-1.tar"]
    fresh = build_index(storage.expand(f"{shards}/*.tar"))
    assert refreshed.table.equals(fresh.table)
    assert refreshed.digest == fresh.digest
    open_index(f"{shards}/*.tar", scan=scan)
    assert scan.take() == []


def test_a_change_that_keeps_the_size_is_noticed(shards, scan):
    before = open_index(f"{shards}/*.tar", scan=scan)
    scan.take()
    file = shards / "train-1.tar"
    file.write_bytes(file.read_bytes().replace(b"text 1 0", b"TEXT 1 0"))
    os.utime(file, (1, 1))
    after = open_index(f"{shards}/*.tar", scan=scan)
    assert scan.take() == ["train-1.tar"]
    assert after.digest != before.digest


def test_a_removed_shard_leaves_the_index(shards, scan):
    open_index(f"{shards}/*.tar", scan=scan)
    (shards / "train-0.tar").unlink()
    scan.take()
    index = open_index(f"{shards}/*.tar", scan=scan)
    assert scan.take() == []
    assert len(index) == 5
    assert (
        index.entries(np.array([0]))[0]
        == build_index(storage.expand(f"{shards}/*.tar")).entries(np.array([0]))[0]
    )


def test_the_digest_follows_the_content_and_not_the_place(shards, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(shards, moved)
    first, second = open_index(f"{shards}/*.tar"), open_index(f"{moved}/*.tar")
    assert first.digest == second.digest
    shuffled = open_index(f"{moved}/train-{{1,0,2}}.tar")
    assert shuffled.digest != first.digest
    assert open_index(f"{moved}/train-{{0,1}}.tar").digest != first.digest


def test_brace_patterns_keep_their_order(shards):
    index = open_index(f"{shards}/train-{{2,0}}.tar")
    assert [Path(shard.url).name for shard in index.shards] == ["train-2.tar", "train-0.tar"]
    keys = [entry.key for entry in index.entries(np.arange(7))]
    assert keys == ["2-0", "2-1", "2-2", "2-3", "0-0", "0-1", "0-2"]


def test_two_patterns_over_one_folder_have_their_own_index(shards):
    assert len(open_index(f"{shards}/train-0.tar")) == 3
    assert len(open_index(f"{shards}/*.tar")) == 8
    assert len(open_index(f"{shards}/train-0.tar")) == 3
    assert len(list((shards / "_eagleray").iterdir())) == 2


def test_an_index_lives_on_an_object_store_too(memory, tar_bytes, scan):
    storage.write_atomic(f"{memory}/x-0.tar", tar_bytes([("a.txt", b"1"), ("b.txt", b"2")]))
    assert len(open_index(f"{memory}/*.tar", scan=scan)) == 2
    assert len(open_index(f"{memory}/*.tar", scan=scan)) == 2
    assert scan.take() == ["x-0.tar"]


# --- a read-only data set -----------------------------------------------------------------


@pytest.fixture
def read_only(shards: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write = storage.write_atomic

    def refuse(url: str, data: bytes) -> None:
        if url.startswith(str(shards)):
            raise StorageError(f"{url}: access refused")
        write(url, data)

    monkeypatch.setattr(module.storage, "write_atomic", refuse)
    return shards


def test_a_read_only_data_set_keeps_its_index_in_the_fallback(read_only, tmp_path, scan):
    fallback = str(tmp_path / "run")
    first = open_index(f"{read_only}/*.tar", fallback, scan)
    assert len(scan.take()) == 3
    assert open_index(f"{read_only}/*.tar", fallback, scan).digest == first.digest
    assert scan.take() == []
    assert not (read_only / "_eagleray").exists()


def test_without_a_fallback_a_read_only_data_set_is_indexed_in_memory(read_only, scan):
    assert len(open_index(f"{read_only}/*.tar", None, scan)) == 8
    assert len(open_index(f"{read_only}/*.tar", None, scan)) == 8
    assert len(scan.take()) == 6


# --- faults ---------------------------------------------------------------------------------


def test_an_empty_tar_is_an_error(tmp_path, make_tar, tar_bytes):
    make_tar(tmp_path / "empty.tar", {})
    with pytest.raises(DataError) as caught:
        open_index(f"{tmp_path}/empty.tar")
    assert str(caught.value) == (
        f"{tmp_path}/empty.tar: no sample in it; a tar of files named KEY.EXTENSION is needed"
    )
    assert not (tmp_path / "_eagleray").exists()


def test_a_tar_of_files_without_extension_is_an_error(tmp_path, tar_bytes):
    (tmp_path / "x.tar").write_bytes(tar_bytes([("README", b"1")]))
    with pytest.raises(DataError, match=r"no sample in it; a tar of files named KEY\.EXTENSION"):
        open_index(f"{tmp_path}/x.tar")


def test_shards_that_are_not_tars_say_why(tmp_path):
    for number in range(3):
        (tmp_path / f"x-{number}.tar").write_bytes(b"not a tar at all" * 100)
    with pytest.raises(DataError, match=r"x-0\.tar and 2 more: no sample in it; not a tar header"):
        open_index(f"{tmp_path}/*.tar")


def test_one_bad_shard_among_good_ones_is_kept_with_its_fault(shards):
    (shards / "train-1.tar").write_bytes(b"garbage" * 200)
    index = open_index(f"{shards}/*.tar")
    assert [shard.samples for shard in index.shards] == [3, 0, 4]
    assert [entry.shard for entry in index.entries(np.array([2, 3]))] == [0, 2]
    assert "not a tar header" in (index.shards[1].fault or "")
    assert index.chunks(2).tolist() == [2, 1, 2, 2]
    assert open_index(f"{shards}/*.tar").table.equals(index.table)


def test_no_match_names_the_nearest_file(shards):
    with pytest.raises(StorageError, match=r"no file matches; did you mean 'train-\d\.tar'"):
        open_index(f"{shards}/trian-*.tar")
    with pytest.raises(StorageError, match=r"train-3\.tar: does not exist; did you mean 'train-"):
        open_index(f"{shards}/train-{{0..3}}.tar")


def one_line(error: pytest.ExceptionInfo[DataError], where: str) -> None:
    assert str(error.value).startswith(f"{where}: ")
    assert str(error.value).endswith("delete it and run again")
    assert "\n" not in str(error.value)


def test_a_damaged_index_file_is_an_error_that_names_it(shards):
    open_index(f"{shards}/*.tar")
    (file,) = (shards / "_eagleray").iterdir()
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError) as caught:
        open_index(f"{shards}/*.tar")
    one_line(caught, str(file))


def test_damage_anywhere_in_an_index_is_an_index_or_an_error_of_one_line(shards):
    whole = open_index(f"{shards}/*.tar").to_bytes()
    chance = random.Random(0)
    refused: list[str] = []
    for turn in range(400):
        data = bytearray(whole)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        if turn % 4 == 0:
            del data[chance.randrange(len(data)) :]
        try:
            Index.from_bytes(bytes(data), "here")
        except DataError as error:
            refused.append(str(error))
    assert len(refused) > 100
    assert all(text.endswith("delete it and run again") for text in refused)


@pytest.mark.parametrize(
    "meta",
    [
        None,
        b"not json",
        b"[]",
        b"{}",
        b'{"version": 1}',
        b'{"version": 1, "shards": 3}',
        b'{"version": 1, "shards": [{"url": "x"}]}',
        b'{"shards": []}',
    ],
)
def test_parquet_without_the_index_metadata_is_not_an_index(shards, meta):
    index = open_index(f"{shards}/*.tar")
    table = index.table.replace_schema_metadata({"eagleray": meta} if meta else None)
    sink = pa.BufferOutputStream()
    module.pq.write_table(table, sink)
    with pytest.raises(DataError) as caught:
        Index.from_bytes(sink.getvalue().to_pybytes(), "here")
    one_line(caught, "here")


def test_an_index_of_another_version_is_refused(shards, monkeypatch):
    index = open_index(f"{shards}/*.tar")
    monkeypatch.setattr(module, "_VERSION", 99)
    data = index.to_bytes()
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"^here: an index of another version; delete it"):
        Index.from_bytes(data, "here")


def test_an_index_that_lost_rows_is_refused(shards):
    index = open_index(f"{shards}/*.tar")
    with pytest.raises(DataError):
        Index.from_bytes(Index(index.shards, index.table.slice(0, 5)).to_bytes(), "here")
