from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipelines.core import StorageError
from pipelines.packers import Skipped, open_tree
from pipelines.packers._tree import local_fault


def test_a_folder_lists_its_files_by_name_wherever_it_is(memory, tmp_path, put):
    files = dict.fromkeys(["b/2.txt", "a.txt", "b/1.txt", "b/c/d.txt", "é.txt"], b"x")
    for url in (put(f"{memory}/d", files), put(tmp_path, files)):
        tree = open_tree(url)
        assert tree.folder
        assert tree.names == ("a.txt", "b/1.txt", "b/2.txt", "b/c/d.txt", "é.txt")
        assert tree.url("b/1.txt") == f"{url}/b/1.txt"
        assert open_tree(f"{url}/").names == tree.names
        assert (tree.skipped, tree.hidden) == ((), 0)


def test_hidden_files_and_folders_are_counted_and_passed_over(memory, tmp_path, put):
    files = dict.fromkeys(["a", ".DS_Store", "d/._a", ".git/x/1", ".git/x/2", "d/.e/f"], b"x")
    for url in (put(f"{memory}/d", files), put(tmp_path, files)):
        tree = open_tree(url)
        assert tree.names == ("a",)
        assert tree.hidden == 4


def test_links_are_followed_only_where_they_stay_inside(tmp_path, put):
    put(tmp_path, {"secret": b"x", "in/a": b"x", "in/sub/b": b"x"})
    inside = tmp_path / "in"
    (inside / "good").symlink_to("sub/b")
    (inside / "out").symlink_to(tmp_path / "secret")
    (inside / "twice").symlink_to("out")
    (inside / "folder").symlink_to("sub")
    (inside / "loop").symlink_to(".")
    os.mkfifo(inside / "pipe")
    tree = open_tree(str(inside))
    assert tree.names == ("a", "good", "sub/b")
    assert tree.skipped == (
        Skipped("folder", "a linked folder, which is not followed"),
        Skipped("loop", "a linked folder, which is not followed"),
        Skipped("out", "a link that leaves the folder"),
        Skipped("pipe", "no regular file"),
        Skipped("twice", "a link that leaves the folder"),
    )


def test_the_folder_itself_may_be_a_link(tmp_path, put):
    put(tmp_path, {"real/a": b"x"})
    (tmp_path / "link").symlink_to("real")
    tree = open_tree(f"{tmp_path}/link")
    assert tree.names == ("a",)
    assert tree.skipped == ()


def test_a_folder_that_cannot_be_listed_is_reported(tmp_path, put, monkeypatch):
    url = put(tmp_path, {"a": b"x", "closed/b": b"x"})
    scan = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith(closed):
            raise PermissionError(13, "denied", str(path))
        return scan(path)

    closed = "closed"
    monkeypatch.setattr(os, "scandir", refuse)
    tree = open_tree(url)
    assert tree.names == ("a",)
    assert tree.skipped == (Skipped("closed", "a folder that cannot be listed"),)
    closed = tmp_path.name
    with pytest.raises(StorageError, match="access refused"):
        open_tree(url)


def test_a_file_and_a_pattern_give_whole_urls(memory, tmp_path, put):
    files = {"a-1.csv": b"", "a-2.csv": b"", "b[1].csv": b""}
    for url in (put(f"{memory}/d", files), put(tmp_path, files)):
        tree = open_tree(f"{url}/a-1.csv")
        assert not tree.folder
        assert tree.names == (f"{url}/a-1.csv",)
        assert tree.url(tree.names[0]) == f"{url}/a-1.csv"
        assert [name.rpartition("/")[2] for name in open_tree(f"{url}/a-*.csv").names] == [
            "a-1.csv",
            "a-2.csv",
        ]
        assert open_tree(f"{url}/b[1].csv").names == (f"{url}/b[1].csv",)


@pytest.mark.parametrize("name", ["phots", "photos/x-*.csv", "photos/{a,b}.csv"])
def test_what_is_not_there_is_one_line(tmp_path, put, name):
    put(tmp_path, {"photos/a.jpg": b"x"})
    with pytest.raises(StorageError) as caught:
        open_tree(f"{tmp_path}/{name}")
    assert "\n" not in str(caught.value)
    assert "does not exist" in str(caught.value) or "no file matches" in str(caught.value)


def test_names_that_are_not_utf_8_are_kept(tmp_path):
    name = os.fsdecode(b"\xff.jpg")
    Path(tmp_path / name).write_bytes(b"x")
    assert open_tree(str(tmp_path)).names == (name,)


def test_only_local_files_can_be_links(memory, tmp_path, put):
    put(memory, {"a": b"x"})
    assert local_fault(memory, f"{memory}/a") == ""
    put(tmp_path, {"in/a": b"x", "out": b"x"})
    (tmp_path / "in" / "b").symlink_to("../out")
    assert local_fault(f"{tmp_path}/in", f"{tmp_path}/in/a") == ""
    assert local_fault(f"{tmp_path}/in", f"{tmp_path}/in/b") == "a link that leaves the folder"
    assert local_fault(f"{tmp_path}/in", f"{tmp_path}/in/missing") == ""  # reading it says so
