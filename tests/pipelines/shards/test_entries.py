from __future__ import annotations

import numpy as np
import pytest

from pipelines.core import DataError
from pipelines.shards.entries import (
    read_entries,
    read_spans,
    scan_shard,
    spans_of,
    write_entries,
)


def test_neighbouring_members_with_one_key_are_one_sample(tmp_path, tar_bytes):
    names = ["a.jpg", "a.txt", "a.seg.png", "readme", "b.jpg", "dir/b.jpg", "a.jpg"]
    file = tmp_path / "x.tar"
    file.write_bytes(tar_bytes([(name, b"1") for name in names]))
    shard, table = scan_shard(str(file), "")
    assert table["key"].to_pylist() == ["a", "b", "dir/b", "a"]
    assert table["extensions"].to_pylist()[0] == ["jpg", "txt", "seg.png"]
    assert shard.samples == 4


def test_a_file_without_extension_does_not_cut_a_sample_in_two(tmp_path, tar_bytes):
    names = ["a.jpg", "LICENSE", "a.txt"]
    file = tmp_path / "x.tar"
    file.write_bytes(tar_bytes([(name, b"1") for name in names]))
    assert scan_shard(str(file), "")[1]["extensions"].to_pylist() == [["jpg", "txt"]]


def test_what_macos_adds_to_a_tar_is_neither_a_sample_nor_a_cut(tmp_path, tar_bytes):
    names = ["./._a.jpg", "./a.jpg", "./._a.txt", "./a.txt", "./.DS_Store"]
    file = tmp_path / "x.tar"
    file.write_bytes(tar_bytes([(name, b"1") for name in names]))
    _, table = scan_shard(str(file), "")
    assert table["key"].to_pylist() == ["./a"]
    assert table["extensions"].to_pylist() == [["jpg", "txt"]]


def test_a_member_that_the_sample_already_has_begins_the_next_one(tmp_path, tar_bytes):
    names = ["a.jpg", "a.txt", "a.jpg", "a.txt", "a.JPG"]
    file = tmp_path / "x.tar"
    file.write_bytes(tar_bytes([(name, b"1") for name in names]))
    shard, table = scan_shard(str(file), "")
    assert table["extensions"].to_pylist() == [["jpg", "txt"], ["jpg", "txt"], ["jpg"]]
    assert shard.samples == 3


def test_members_without_a_sample_are_counted(tmp_path, tar_bytes):
    file = tmp_path / "x.tar"
    file.write_bytes(tar_bytes([("README", b"1"), ("a.txt", b"1"), (".hidden", b"1")]))
    shard, _ = scan_shard(str(file), "stamp")
    assert (shard.samples, shard.skipped, shard.stamp) == (1, 2, "stamp")


def test_spans_follow_one_another_and_cover_every_member(tmp_path, tar_bytes):
    file = tmp_path / "x.tar"
    file.write_bytes(tar_bytes([(f"{n}.{e}", b"x" * n) for n in range(600, 604) for e in "ab"]))
    _, table = scan_shard(str(file), "")
    spans = spans_of(table)
    assert spans[0].tolist() == [0, *spans[1, :-1].tolist()]
    assert all((np.diff(spans, axis=0) == 2 * (512 + 1024)).tolist())


def test_entries_come_back_from_their_file(tmp_path, tar_bytes):
    file, place = tmp_path / "x.tar", str(tmp_path / "e.parquet")
    file.write_bytes(tar_bytes([("a.txt", b"1"), ("a.jpg", b""), ("b.txt", b"2")]))
    _, table = scan_shard(str(file), "")
    write_entries(place, table)
    assert read_entries(place).equals(table)
    assert np.array_equal(read_spans(place), spans_of(table))


@pytest.mark.parametrize("content", [b"", b"nothing of the kind"])
def test_damaged_entries_are_one_line(tmp_path, content):
    (tmp_path / "e.parquet").write_bytes(content)
    for read in (read_entries, read_spans):
        with pytest.raises(DataError, match=r"e\.parquet: damaged; delete it and run"):
            read(str(tmp_path / "e.parquet"))
