from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.core import StorageError, UserError
from trainers.swap import SwapFolder, check_lockable

KILLED = """
import sys, time
from trainers.swap import SwapFolder
swap = SwapFolder(sys.argv[1])
(swap.path / "moments").write_text("x")
print(swap.path, flush=True)
time.sleep(60)
"""

# Gone between the two removals: what lies inside comes first, the lock with the second.
CUT_SHORT = """
import os, shutil, sys
from trainers.swap import SwapFolder
swap = SwapFolder(sys.argv[1])
(swap.path / "moments").write_text("x")
print(swap.path, flush=True)
remove, removed = shutil.rmtree, []

def once(folder, **options):
    if removed:
        os._exit(1)
    removed.append(folder)
    remove(folder, **options)

shutil.rmtree = once
swap.close()
"""


def test_a_folder_is_gone_when_it_is_closed(tmp_path: Path) -> None:
    swap = SwapFolder(str(tmp_path))
    (swap.path / "moments").write_text("x")
    swap.close()
    assert list(tmp_path.iterdir()) == []


def test_folders_in_use_are_left_alone(tmp_path: Path) -> None:
    first, second = SwapFolder(str(tmp_path)), SwapFolder(str(tmp_path))
    assert first.path.is_dir()
    assert first.path != second.path
    first.close()
    second.close()


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    left = Path(process.stdout.readline().strip())
    alive = SwapFolder(str(tmp_path))
    assert (left / "moments").exists()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (left / "moments").exists()
    SwapFolder(str(tmp_path)).close()
    assert not left.exists()
    assert alive.path.is_dir()
    alive.close()


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "eagleray-swap-being-made").mkdir()  # its lock is not there yet
    SwapFolder(str(tmp_path)).close()
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "eagleray-swap-being-made"}


def test_a_removal_that_was_cut_short_is_finished_by_the_next(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CUT_SHORT, str(tmp_path)]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    left = Path(process.stdout.strip())
    assert process.returncode == 1
    assert not left.exists()
    assert (left.parent / "lock").exists()  # without it the rest would stay for ever
    SwapFolder(str(tmp_path)).close()
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
