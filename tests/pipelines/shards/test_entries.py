from __future__ import annotations

import io
import random
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core import DataError
from pipelines.shards.entries import (
    Shard,
    read_entries,
    read_keys,
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
    shard, table = scan_shard(str(file), "")
    write_entries(place, table)
    kept = replace(shard, entries=place)
    assert read_entries(kept).equals(table)
    assert np.array_equal(read_spans(kept), spans_of(table))


@pytest.fixture
def kept(tmp_path, tar_bytes) -> Shard:
    """A shard of four samples whose entries are in a file."""
    file, place = tmp_path / "x.tar", str(tmp_path / "e.parquet")
    file.write_bytes(tar_bytes([(f"{number}.txt", b"1") for number in range(4)]))
    shard, table = scan_shard(str(file), "")
    write_entries(place, table)
    return replace(shard, entries=place)


def refused(shard: Shard, *reads: Callable[[Shard], object]) -> None:
    for read in reads:
        with pytest.raises(DataError) as caught:
            read(shard)
        assert str(caught.value) == (
            f"{shard.entries}: damaged; delete the folder it is in and run again"
        )


@pytest.mark.parametrize("content", [b"", b"nothing of the kind"])
def test_damaged_entries_are_one_line(kept, content):
    Path(kept.entries).write_bytes(content)
    refused(kept, read_entries, read_spans, read_keys)


def test_damage_anywhere_in_entries_is_entries_or_an_error_of_one_line(kept):
    whole = Path(kept.entries).read_bytes()
    chance = random.Random(0)
    faults = 0
    for _ in range(400):
        data = bytearray(whole)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        Path(kept.entries).write_bytes(data)
        for read in (read_entries, read_spans, read_keys):
            try:
                read(kept)
            except DataError:
                faults += 1
    assert faults > 100


# --- entries that others wrote --------------------------------------------------------------


def other(shard: Shard, **columns: object) -> None:
    """Write entries of four samples of which some columns are others."""
    table = {
        "key": list("abcd"),
        "start": [0, 1024, 2048, 3072],
        "stop": [1024, 2048, 3072, 4096],
        "extensions": [["txt"]] * 4,
        "offsets": [[512], [1536], [2560], [3584]],
        "sizes": [[1]] * 4,
        **columns,
    }
    pq.write_table(pa.table(table), shard.entries, compression="zstd")


def test_entries_that_fit_their_shard_are_read(kept):
    other(kept)
    assert read_spans(kept).tolist() == [[0, 1024, 2048, 3072], [1024, 2048, 3072, 4096]]
    assert read_entries(kept).num_rows == 4


@pytest.mark.parametrize(
    "columns",
    [
        {"start": [5000, 1024, 2048, 3072]},
        {"start": [1024, 1024, 2048, 3072]},
        {"start": [-512, 1024, 2048, 3072]},
        {"start": [None, 1024, 2048, 3072]},
        {"stop": [None, 2048, 3072, 4096]},
        {"stop": [1024, 2048, 3072, 1 << 40]},
        {"start": [-(2**63), 1024, 2048, 3072], "stop": [2**63 - 1, 2048, 3072, 4096]},
    ],
)
def test_samples_outside_their_shard_are_refused(kept, columns):
    other(kept, **columns)
    refused(kept, read_spans, read_entries)


@pytest.mark.parametrize(
    "columns",
    [
        {"key": ["a", None, "c", "d"]},
        {"extensions": [["txt"], [None], ["txt"], ["txt"]]},
        {"sizes": [[1], None, [1], [1]]},
        {"key": pa.array([b"abc"] * 4, pa.binary(3))},
    ],
)
def test_entries_with_values_missing_or_of_other_kinds_are_refused(kept, columns):
    other(kept, **columns)
    refused(kept, read_entries)


def test_entries_of_more_samples_than_a_shard_has_are_refused_before_they_are_unpacked(kept, arrow):
    rows = 10_000_000
    columns = [pa.repeat(pa.scalar(value, pa.int64()), rows) for value in (0, 512)]
    pq.write_table(pa.table(columns, ["start", "stop"]), kept.entries, compression="zstd")
    assert Path(kept.entries).stat().st_size < 1 << 20
    peak = arrow()
    refused(kept, read_spans)
    assert peak() < 1 << 20


@pytest.mark.parametrize(
    "columns",
    [
        {"offsets": [[512] * 10_000_000, [1], [2], [3]]},
        {"extensions": [["txt"] * 10_000_000, ["a"], ["a"], ["a"]]},
        {"key": ["k" * 50_000_000] * 4},
    ],
)
def test_entries_that_unpack_to_much_more_than_their_shard_are_refused_before(kept, arrow, columns):
    other(kept, **columns)
    assert Path(kept.entries).stat().st_size < 1 << 20
    peak = arrow()
    refused(kept, read_entries)
    assert peak() < 1 << 20


def test_a_text_that_all_samples_share_is_not_unpacked_for_each(tmp_path, arrow):
    rows, place = 5_000, str(tmp_path / "e.parquet")
    shard = Shard("x.tar", "", rows * 512, "", rows, 0, "", place)
    keys = pa.repeat(pa.scalar("k" * 50_000), rows)  # of 250 MB, as one of 50 KB
    pq.write_table(pa.table([keys], ["key"]), place)
    peak = arrow()
    refused(shard, read_keys)
    assert peak() < 1 << 20


def test_names_as_long_as_a_tar_may_have_are_read(tmp_path, tar_bytes):
    file, place = tmp_path / "x.tar", str(tmp_path / "e.parquet")
    long = tarfile.TarInfo("ab")
    long.size = 1
    with tarfile.open(file, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as tar:
        for number in range(500):
            long.name = "\xff" * 5_000 + f"{number}.txt"
            tar.addfile(long, io.BytesIO(b"1"))
    shard, table = scan_shard(str(file), "")
    write_entries(place, table)
    assert read_entries(replace(shard, entries=place)).equals(table)
