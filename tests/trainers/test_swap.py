from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.core import StorageError
from trainers.swap import SwapFolder

KILLED = """
import sys, time
from trainers.swap import SwapFolder
swap = SwapFolder(sys.argv[1])
(swap.path / "moments").write_text("x")
print(swap.path, flush=True)
time.sleep(60)
"""


def test_a_folder_is_gone_when_it_is_closed(tmp_path: Path) -> None:
    swap = SwapFolder(str(tmp_path / "disk"))
    (swap.path / "moments").write_text("x")
    swap.close()
    assert list((tmp_path / "disk").iterdir()) == []


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


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"offload.folder .*/file/disk: Not a directory; name"):
        SwapFolder(str(tmp_path / "file" / "disk"))


def test_a_file_system_without_direct_access_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path: object, flags: int, *rest: object, **more: object) -> int:
        if flags & os.O_DIRECT:
            raise OSError(22, "Invalid argument")
        return real(path, flags, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StorageError, match="Invalid argument; name a folder on a local disk"):
        SwapFolder(str(tmp_path))
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
