from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from pipelines.core import DataError
from pipelines.shards import storage
from pipelines.shards.quarantine import read_quarantine, write_quarantine


def fault(key: str, reason: str = "not an image", shard: str = "a.tar") -> dict[str, str]:
    return {"shard": shard, "key": key, "reason": reason}


@pytest.fixture(params=["local", "memory"])
def url(request: pytest.FixtureRequest, tmp_path) -> str:
    folder = str(tmp_path) if request.param == "local" else request.getfixturevalue("memory")
    return storage.join(folder, "run", "quarantine.parquet")


def test_without_a_file_the_quarantine_is_empty(url):
    assert read_quarantine(url) == []


def test_faults_are_added_to_those_already_there(url):
    assert write_quarantine(url, [fault("1"), fault("2")]) == 2
    assert write_quarantine(url, [fault("3"), fault("1", shard="b.tar")]) == 4
    assert read_quarantine(url) == [
        fault("1"),
        fault("2"),
        fault("3"),
        fault("1", shard="b.tar"),
    ]


def test_a_sample_counts_once(url):
    assert write_quarantine(url, [fault("1"), fault("1"), fault("1", "again")]) == 1
    assert write_quarantine(url, [fault("1")]) == 1
    assert len(read_quarantine(url)) == 1


def test_nothing_new_writes_nothing(url, monkeypatch):
    assert write_quarantine(url, []) == 0
    assert not storage.exists(url)
    write_quarantine(url, [fault("1")])
    monkeypatch.setattr(storage, "write_atomic", lambda *_: pytest.fail("written again"))
    assert write_quarantine(url, [fault("1", "another reason")]) == 1


def test_other_tools_can_read_it(tmp_path):
    url = str(tmp_path / "quarantine.parquet")
    write_quarantine(url, [{**fault("naïve"), "more": "is dropped"}])
    table = pq.read_table(url)
    assert table.column_names == ["shard", "key", "reason"]
    assert table.to_pylist() == [fault("naïve")]


def test_a_damaged_file_is_one_line(tmp_path):
    (tmp_path / "q.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=r"q\.parquet: damaged; delete it"):
        read_quarantine(str(tmp_path / "q.parquet"))
