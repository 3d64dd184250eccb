from __future__ import annotations

import pytest
from ray.exceptions import RayTaskError

from pipelines.core import StorageError
from pipelines.shards import index_tasks, storage
from pipelines.shards.index import open_index, scan_here
from pipelines.shards.index_tasks import scan_on_cluster


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("kept", ["in a folder", "in memory"])
def test_ray_tasks_scan_as_this_process_does(tmp_path, make_tar, monkeypatch, kept):
    monkeypatch.setattr(index_tasks, "_AHEAD", 2)  # fewer than there are shards
    for n in range(5):
        make_tar(tmp_path / f"{n}.tar", {f"{n}-{i}": {"txt": b"x"} for i in range(n + 1)})
    listed = storage.listing(f"{tmp_path}/*.tar")
    folder = str(tmp_path / "entries") if kept == "in a folder" else ""

    def by_url(scanned):
        return sorted(scanned, key=lambda each: each[0].url)

    found, expected = by_url(scan_on_cluster(listed, folder)), by_url(scan_here(listed, folder))
    assert [shard for shard, _ in found] == [shard for shard, _ in expected]
    for (_, table), (_, wanted) in zip(found, expected, strict=True):
        assert table is None if folder else table.equals(wanted)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_an_index_by_ray_tasks_is_the_same(tmp_path, make_tar):
    for n in range(3):
        make_tar(tmp_path / f"{n}.tar", {f"{n}-{i}": {"txt": b"x"} for i in range(n + 1)})
    there = open_index(f"{tmp_path}/*.tar", scan=scan_on_cluster)
    assert there.shards["samples"].to_pylist() == [1, 2, 3]
    assert there.spans(2).shape == (2, 3)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_shard_that_cannot_be_read_is_told_in_one_line(tmp_path):
    listed = [(storage.join(str(tmp_path), "gone.tar"), "1")]
    with pytest.raises(StorageError, match=r"gone\.tar") as caught:
        list(scan_on_cluster(listed, ""))
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, RayTaskError)
