"""An index that lies beside foreign shards may have been made by whoever made them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core import DataError, StorageError
from pipelines.shards import storage
from pipelines.shards.index import Index, open_index
from pipelines.shards.index_table import SCHEMA, read_index

Rows = list[dict[str, Any]]
NOWHERE = ["http://169.254.169.254/latest", "/dev/zero", "", "../x.parquet", "/other/x.parquet"]


def keys(index: Index) -> list[str]:
    return [k for n in range(index.shards.num_rows) for k in index.keys(n).to_pylist()]


def change(folder: Path, make: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    """Write other values into the rows of the table of shards that a folder holds."""
    (file,) = folder.glob("_eagleray/index*")
    rows = [{**row, **make(row)} for row in read_index(str(file)).to_pylist()]
    file.write_bytes(Index(pa.Table.from_pylist(rows, schema=SCHEMA)).to_bytes())
    return file


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is read as a whole, as indexes and entries are."""
    found: list[str] = []
    real = storage.read_bytes
    monkeypatch.setattr(storage, "read_bytes", lambda url: found.append(url) or real(url))
    return found


@pytest.mark.parametrize("place", NOWHERE)
def test_entries_are_read_from_the_folder_of_the_index_wherever_it_says(
    shards, scan, opened, place
):
    expected = keys(open_index(f"{shards}/*.tar"))
    change(shards, lambda _: {"entries": place})
    opened.clear()
    assert keys(open_index(f"{shards}/*.tar", scan=scan)) == expected
    assert scan.take() == []
    assert {Path(url).parent for url in opened} == {shards / "_eagleray"}


@pytest.mark.parametrize("listed", [True, False])
def test_shards_whose_entries_are_elsewhere_are_scanned_anew(
    shards, scan, opened, tmp_path, monkeypatch, listed
):
    expected = keys(open_index(f"{shards}/*.tar"))
    other = tmp_path / "other"
    other.mkdir()
    for file in (shards / "_eagleray").glob("[!i]*"):
        shutil.move(file, other)
    change(shards, lambda row: {"entries": f"{other}/{Path(row['entries']).name}"})
    if not listed:
        monkeypatch.setattr(storage, "names", refuse)
    opened.clear()
    assert keys(open_index(f"{shards}/*.tar", scan=scan)) == expected
    assert len(scan.take()) == 3
    assert {Path(url).parent for url in opened} == {shards / "_eagleray"}
    assert keys(open_index(f"{shards}/*.tar", scan=scan)) == expected
    assert scan.take() == []


def refuse(url: str) -> list[str]:
    raise StorageError(f"{url}: access refused")


def test_a_run_that_was_moved_keeps_the_index_of_a_read_only_data_set(
    shards, scan, tmp_path, monkeypatch
):
    write = storage.write_atomic
    monkeypatch.setattr(
        storage, "write_atomic", lambda u, d: refuse(u) if str(shards) in u else write(u, d)
    )
    expected = keys(open_index(f"{shards}/*.tar", f"{tmp_path}/run"))
    (tmp_path / "run").rename(tmp_path / "moved")
    assert keys(open_index(f"{shards}/*.tar", f"{tmp_path}/moved", scan)) == expected
    monkeypatch.chdir(tmp_path)
    assert keys(open_index(f"{shards}/*.tar", "moved", scan)) == expected
    assert scan.take() == []


def test_a_shard_that_is_smaller_than_its_index_says_is_scanned_anew(shards, scan):
    open_index(f"{shards}/*.tar")
    change(shards, lambda _: {"size": 1 << 40})
    index = open_index(f"{shards}/*.tar", scan=scan)
    assert len(scan.take()) == 3
    assert index.shards["size"].to_pylist() == [
        f.stat().st_size for f in sorted(shards.glob("*.tar"))
    ]


@pytest.mark.parametrize(
    "values",
    [
        {"size": -1},
        {"size": None},
        {"size": 1 << 60, "samples": 1 << 40},
        {"samples": -1},
        {"samples": None},
        {"samples": 1 << 40},
        {"sha256": "../" * 21 + "x"},
        {"sha256": "0" * 64 + "\n"},
        {"sha256": None},
        {"url": None},
        {"entries": None},
    ],
)
def test_a_shard_that_cannot_be_is_an_error_that_names_the_index(shards, values):
    open_index(f"{shards}/*.tar")
    (file,) = shards.glob("_eagleray/index*")
    rows = read_index(str(file)).to_pylist()
    rows[1] = {**rows[1], **values}
    meta = {"eagleray": '{"version": 3}'}
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA.with_metadata(meta)), file)
    with pytest.raises(DataError) as caught:
        open_index(f"{shards}/*.tar")
    assert str(caught.value) == f"{file}: not an index; delete it and run again"


@pytest.mark.parametrize(("rows", "text"), [(2_000_000, ""), (50_000, "x" * 5_000)])
def test_a_table_of_more_than_there_is_is_refused_before_it_is_unpacked(shards, arrow, rows, text):
    open_index(f"{shards}/*.tar")
    (file,) = shards.glob("_eagleray/index*")
    row = {**read_index(str(file)).to_pylist()[0], "fault": text}
    meta = {"eagleray": '{"version": 3}'}
    columns = [pa.repeat(pa.scalar(row[f.name], f.type), rows) for f in SCHEMA]
    pq.write_table(pa.table(columns, schema=SCHEMA.with_metadata(meta)), file)
    assert file.stat().st_size < 1 << 20
    peak = arrow()
    with pytest.raises(DataError, match=r"not an index; delete it and run again$"):
        open_index(f"{shards}/*.tar")
    assert peak() < 32 << 20


def test_a_table_of_shards_that_are_gone_is_read(shards, scan):
    open_index(f"{shards}/*.tar")
    (file,) = shards.glob("_eagleray/index*")
    rows = read_index(str(file)).to_pylist()
    gone = [{**rows[0], "url": f"/gone/{number}.tar"} for number in range(50_000)]
    file.write_bytes(Index(pa.Table.from_pylist(gone + rows, schema=SCHEMA)).to_bytes())
    assert len(open_index(f"{shards}/*.tar", scan=scan)) == 8
    assert scan.take() == []


def test_to_delete_the_folder_of_damaged_entries_is_what_helps(shards):
    index = open_index(f"{shards}/*.tar")
    place = Path(index.shard(0).entries)
    place.write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=r"delete the folder it is in and run again$"):
        open_index(f"{shards}/*.tar").spans(0)
    shutil.rmtree(place.parent)
    assert keys(open_index(f"{shards}/*.tar")) == keys(index)
