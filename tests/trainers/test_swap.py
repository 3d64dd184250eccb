from __future__ import annotations

import ctypes
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.core import StorageError, UserError
from trainers.swap import SwapFolder, check_lockable


def test_a_folder_is_gone_when_it_is_closed(tmp_path: Path) -> None:
    swap = SwapFolder(str(tmp_path))
    (swap.path / "moments").write_text("x")
    swap.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("place", "why"), [("file/a", "Not a directory"), ("a", "No such file")])
def test_a_place_that_is_none_is_one_line(tmp_path: Path, place: str, why: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=rf"offload.folder .*/{place}: {why}.*; name a folder"):
        SwapFolder(str(tmp_path / place))


@pytest.mark.parametrize("call", ["open", "pwritev", "preadv"])
def test_a_disk_without_direct_access_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    real = getattr(os, call)

    def refuse(place: object, *rest: Any, **more: Any) -> int:
        if call != "open" or rest[0] & os.O_DIRECT:
            raise OSError(22, "Invalid argument")
        return int(real(place, *rest, **more))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, refuse)
        with pytest.raises(StorageError, match="Invalid argument; name a folder on a local disk"):
            SwapFolder(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"GiB free of 1024.0 that are needed"):
        SwapFolder(str(tmp_path), 1 << 40)
    assert list(tmp_path.iterdir()) == []


def test_memory_that_may_not_be_locked_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_lockable(4096)
    library = SimpleNamespace(mlock=lambda *_: -1, munlock=lambda *_: 0)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: library)
    with pytest.raises(UserError, match=r"locks 8 MiB of memory, more than .* `ulimit -l`"):
        check_lockable(8 << 20)
