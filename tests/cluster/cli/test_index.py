from __future__ import annotations

from pathlib import Path

import pytest

from cluster.cli.index import Counted, _show, command, describe
from pipelines.core import UserError
from pipelines.shards.index import open_index, scan_here


@pytest.fixture
def url(tmp_path: Path, make_tar: object) -> str:
    for n in range(3):
        make_tar(tmp_path / f"{n}.tar", {f"{n}-{i}": {"txt": b"x"} for i in range(4)})  # type: ignore[operator]
    (tmp_path / "1.tar").write_bytes((tmp_path / "1.tar").read_bytes()[:3000])
    return f"{tmp_path}/*.tar"


def test_it_says_what_is_there_and_what_was_read(url: str, capsys) -> None:
    seen: list[tuple[int, int]] = []
    counted = Counted(scan_here, lambda *each: seen.append(each))
    found = describe(open_index(url, scan=counted), counted.scanned, 1.5)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert (found["shards"], found["scanned"], found["samples"]) == (3, 3, 10)
    assert found["kept"]
    (damaged,) = found["damaged"]
    assert damaged["shard"].endswith("1.tar")
    _show(found)
    text = capsys.readouterr().out
    assert "damaged: " in text
    assert "10 samples in 3 shards" in text
    assert "3 shards read in 1.5 s" in text
    again = Counted(scan_here, lambda *each: None)
    open_index(url, scan=again)
    assert again.scanned == 0


def test_an_index_in_memory_says_that_it_is_not_kept(url: str, monkeypatch, capsys) -> None:
    from pipelines.shards import index

    monkeypatch.setattr(index, "_writable", lambda folder: False)
    found = describe(open_index(url), 3, 1.0)
    assert not found["kept"]
    _show(found)
    assert "not kept: the data set is read-only; --keep FOLDER" in capsys.readouterr().out


def test_shipped_data_need_no_index(monkeypatch) -> None:
    monkeypatch.setattr("cluster.session.connect", lambda *_: pytest.fail("Ray was started"))
    with pytest.raises(UserError, match=r"emoji-unseen-\*.tar: comes with the project"):
        command("eagleray://emoji/emoji-unseen-*.tar")
