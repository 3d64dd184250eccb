from __future__ import annotations

import hashlib
import io
import os
import pickle
import random
import re
import shutil
import tarfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core import DataError, StorageError
from pipelines.core.source import Fault
from pipelines.shards import index_table, storage
from pipelines.shards.entries import Shard
from pipelines.shards.index import Index, open_index
from pipelines.shards.index_table import SCHEMA, read_index


def keys(index: Index) -> list[str]:
    return [
        key
        for number in range(index.shards.num_rows)
        for key in index.entries(number)["key"].to_pylist()
    ]


def counts(index: Index) -> list[int]:
    return index.shards["samples"].to_pylist()


def same(found: Index, expected: Index) -> bool:
    """Whether two indexes describe the same samples, wherever their entries are kept."""
    described = [index.shards.drop(["entries"]) for index in (found, expected)]
    return (
        described[0].equals(described[1])
        and keys(found) == keys(expected)
        and all(
            np.array_equal(found.spans(number), expected.spans(number))
            for number in range(found.shards.num_rows)
        )
    )


def test_an_index_gives_every_sample_its_place(shards):
    index = open_index(f"{shards}/*.tar")
    assert len(index) == 8
    assert counts(index) == [3, 1, 4]
    numbers, places = index.locate(np.array([7, 0, 3, 3]))
    assert (numbers.tolist(), places.tolist()) == ([2, 0, 1, 1], [3, 0, 0, 0])
    assert keys(index) == ["0-0", "0-1", "0-2", "1-0", "2-0", "2-1", "2-2", "2-3"]
    assert [index.first(number) for number in range(3)] == [0, 3, 4]
    for number in range(3):
        shard = index.shard(number)
        data = Path(shard.url).read_bytes()
        assert (shard.size, shard.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert shard.fault == ""
        assert index.url(number) == shard.url


def test_spans_cut_out_whole_members(shards):
    index = open_index(f"{shards}/*.tar")
    data = Path(index.url(2)).read_bytes()
    spans = index.spans(2)
    assert spans.dtype == np.int64
    for place, (start, stop) in enumerate(spans.T.tolist()):
        with tarfile.open(fileobj=io.BytesIO(data[start:stop])) as tar:
            assert tar.getnames() == [f"2-{place}.txt", f"2-{place}.cls"]


def test_a_damaged_tail_keeps_what_came_before_it(shards):
    file = shards / "train-2.tar"
    file.write_bytes(file.read_bytes()[: 4 * 1024 + 100])
    index = open_index(f"{shards}/*.tar")
    assert counts(index) == [3, 1, 2]
    assert index.faults == [Fault(str(file), "", "truncated in a header")]


def test_an_index_pickles_and_still_finds_its_entries(shards):
    index = open_index(f"{shards}/*.tar")
    index.spans(0)
    again = pickle.loads(pickle.dumps(index))
    assert same(again, index)
    assert again.digest == index.digest


def test_the_second_opening_scans_nothing(shards, scan):
    first = open_index(f"{shards}/*.tar", scan=scan)
    assert scan.take() == ["train-0.tar", "train-1.tar", "train-2.tar"]
    second = open_index(f"{shards}/*.tar", scan=scan)
    assert scan.take() == []
    assert same(second, first)


def test_a_shard_that_is_named_twice_is_scanned_once(shards, scan):
    index = open_index(f"{shards}/train-{{0,1,0}}.tar", scan=scan)
    assert scan.take() == ["train-0.tar", "train-1.tar"]
    assert counts(index) == [3, 1, 3]
    assert keys(index) == ["0-0", "0-1", "0-2", "1-0", "0-0", "0-1", "0-2"]


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
    shutil.rmtree(shards / "_eagleray")
    fresh = open_index(f"{shards}/*.tar")
    assert same(refreshed, fresh)
    assert refreshed.digest == fresh.digest
    scan.take()
    open_index(f"{shards}/*.tar", scan=scan)
    assert scan.take() == []


def test_what_was_scanned_before_a_fault_is_not_scanned_again(shards, scan):
    def fails(listed, folder):
        yield from scan(listed[:2], folder)
        raise StorageError("changed while it was read; run again")

    with pytest.raises(StorageError, match="run again"):
        open_index(f"{shards}/*.tar", scan=fails)
    assert scan.take() == ["train-0.tar", "train-1.tar"]
    index = open_index(f"{shards}/*.tar", scan=scan)
    assert scan.take() == ["train-2.tar"]
    shutil.rmtree(shards / "_eagleray")
    assert same(index, open_index(f"{shards}/*.tar"))


def test_what_another_process_has_found_meanwhile_is_kept(shards, scan):
    def late(listed, folder):
        yield from scan(listed[:1], folder)
        open_index(f"{shards}/*.tar")
        raise StorageError("changed while it was read; run again")

    with pytest.raises(StorageError, match="run again"):
        open_index(f"{shards}/*.tar", scan=late)
    scan.take()
    open_index(f"{shards}/*.tar", scan=scan)
    assert scan.take() == []


class Killed(BaseException):
    pass


def test_what_was_scanned_is_kept_every_now_and_then(shards, scan, monkeypatch):
    def dies(*_: object) -> None:
        raise Killed

    def killed(listed, folder):
        yield from scan(listed[:2], folder)
        monkeypatch.setattr(storage, "write_atomic", dies)
        raise Killed

    monkeypatch.setattr("pipelines.shards.index._KEPT", 0.0)
    with pytest.raises(Killed):
        open_index(f"{shards}/*.tar", scan=killed)
    monkeypatch.undo()
    scan.take()
    open_index(f"{shards}/*.tar", scan=scan)
    assert scan.take() == ["train-2.tar"]


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
    assert keys(index) == ["1-0", "2-0", "2-1", "2-2", "2-3"]


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
    names = [Path(url).name for url in index.shards["url"].to_pylist()]
    assert names == ["train-2.tar", "train-0.tar"]
    assert keys(index) == ["2-0", "2-1", "2-2", "2-3", "0-0", "0-1", "0-2"]


def test_two_patterns_over_one_folder_have_their_own_index(shards):
    assert len(open_index(f"{shards}/train-0.tar")) == 3
    assert len(open_index(f"{shards}/*.tar")) == 8
    assert len(open_index(f"{shards}/train-0.tar")) == 3
    assert len(list((shards / "_eagleray").glob("index*"))) == 2


def test_patterns_that_overlap_share_their_entries(shards):
    open_index(f"{shards}/train-0.tar")
    open_index(f"{shards}/*.tar")
    assert len(list((shards / "_eagleray").iterdir())) == 2 + 3


def test_an_index_lives_on_an_object_store_too(memory, tar_bytes, scan):
    storage.write_atomic(f"{memory}/x-0.tar", tar_bytes([("a.txt", b"1"), ("b.txt", b"2")]))
    assert len(open_index(f"{memory}/*.tar", scan=scan)) == 2
    assert len(open_index(f"{memory}/*.tar", scan=scan)) == 2
    assert scan.take() == ["x-0.tar"]


# --- faults ---------------------------------------------------------------------------------


def test_an_empty_tar_is_an_error(tmp_path, make_tar, tar_bytes):
    make_tar(tmp_path / "empty.tar", {})
    with pytest.raises(DataError) as caught:
        open_index(f"{tmp_path}/empty.tar")
    assert str(caught.value) == (
        f"{tmp_path}/empty.tar: no sample in it; a tar of files named KEY.EXTENSION is needed"
    )


def test_a_tar_of_files_without_extension_is_an_error(tmp_path, tar_bytes):
    (tmp_path / "x.tar").write_bytes(tar_bytes([("README", b"1")]))
    with pytest.raises(DataError, match=r"no sample in it; a tar of files named KEY\.EXTENSION"):
        open_index(f"{tmp_path}/x.tar")


def test_shards_that_are_not_tars_say_why(tmp_path):
    for number in range(3):
        (tmp_path / f"x-{number}.tar").write_bytes(b"not a tar at all" * 100)
    with pytest.raises(DataError, match=r"\*\.tar: no sample in it; not a tar header"):
        open_index(f"{tmp_path}/*.tar")


def test_one_bad_shard_among_good_ones_is_kept_with_its_fault(shards):
    (shards / "train-1.tar").write_bytes(b"garbage" * 200)
    index = open_index(f"{shards}/*.tar")
    assert counts(index) == [3, 0, 4]
    assert index.locate(np.array([2, 3]))[0].tolist() == [0, 2]
    (fault,) = index.faults
    assert (fault.shard, fault.key) == (str(shards / "train-1.tar"), "")
    assert "not a tar header" in fault.reason
    assert same(open_index(f"{shards}/*.tar"), index)


def test_no_match_names_the_nearest_file(shards):
    with pytest.raises(StorageError, match=r"no file matches; did you mean 'train-\d\.tar'"):
        open_index(f"{shards}/trian-*.tar")
    with pytest.raises(StorageError, match=r"train-3\.tar: does not exist; did you mean 'train-"):
        open_index(f"{shards}/train-{{0..3}}.tar")


def one_line(error: pytest.ExceptionInfo[DataError], where: str) -> None:
    assert str(error.value).startswith(f"{where}: ")
    assert re.search(r"; delete (it|the folder it is in) and run again$", str(error.value))
    assert "\n" not in str(error.value)


def table_of_shards(folder: Path) -> Path:
    (file,) = (folder / "_eagleray").glob("index*")
    return file


def test_a_damaged_index_file_is_an_error_that_names_it(shards):
    open_index(f"{shards}/*.tar")
    file = table_of_shards(shards)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError) as caught:
        open_index(f"{shards}/*.tar")
    one_line(caught, str(file))


def test_damaged_entries_are_an_error_that_names_them(shards):
    index = open_index(f"{shards}/*.tar")
    place = index.shard(2).entries
    other = Path(index.shard(0).entries).read_bytes()
    for damage in (b"nothing of the kind", other):  # of another shard: another count of samples
        Path(place).write_bytes(damage)
        with pytest.raises(DataError) as caught:
            open_index(f"{shards}/*.tar").spans(2)
        one_line(caught, place)


def test_damage_anywhere_in_an_index_is_an_index_or_an_error_of_one_line(shards, tmp_path):
    whole = open_index(f"{shards}/*.tar").to_bytes()
    chance = random.Random(0)
    refused: list[str] = []
    file = tmp_path / "index.parquet"
    for turn in range(400):
        data = bytearray(whole)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        if turn % 4 == 0:
            del data[chance.randrange(len(data)) :]
        file.write_bytes(data)
        try:
            read_index(str(file))
        except DataError as error:
            refused.append(str(error))
    assert len(refused) > 100
    assert all(text.endswith("delete it and run again") for text in refused)


@pytest.mark.parametrize("meta", [None, b"not json", b"[]", b"{}", b"3"])
def test_parquet_without_the_index_metadata_is_not_an_index(shards, tmp_path, meta):
    index = open_index(f"{shards}/*.tar")
    table = index.shards.replace_schema_metadata({"eagleray": meta} if meta else None)
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(DataError) as caught:
        read_index(str(tmp_path / "x.parquet"))
    one_line(caught, str(tmp_path / "x.parquet"))


def test_a_table_with_other_columns_is_not_an_index(tmp_path):
    table = pa.table({"x": [1]}).replace_schema_metadata({"eagleray": '{"version": 3}'})
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(DataError, match="not an index"):
        read_index(str(tmp_path / "x.parquet"))


def test_an_index_of_another_version_is_refused(shards, monkeypatch):
    open_index(f"{shards}/*.tar")
    monkeypatch.setattr(index_table, "VERSION", 99)
    with pytest.raises(DataError, match=r"an index of another version; delete it"):
        read_index(str(table_of_shards(shards)))


def test_opening_does_not_look_at_the_samples(tmp_path):
    """Ten thousand shards of a hundred thousand samples each, none of which exists."""
    rows = [
        asdict(Shard(f"/{n:06d}.tar", "1:2", 1 << 30, f"{n:064x}", 100_000, 0, "", f"/e/{n}"))
        for n in range(10_000)
    ]
    index = Index(pa.Table.from_pylist(rows, schema=SCHEMA))
    storage.write_atomic(str(tmp_path / "i.parquet"), index.to_bytes())
    again = Index(read_index(str(tmp_path / "i.parquet")))
    assert len(again) == 10**9
    numbers, places = again.locate(np.array([0, 10**9 - 1, 123_456_789]))
    assert numbers.tolist() == [0, 9999, 1234]
    assert places.tolist() == [0, 99_999, 56_789]
