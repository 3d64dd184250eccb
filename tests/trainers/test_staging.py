from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipelines.core import StorageError
from trainers.staging import scratch, staging, sweep

BUCKET = "memory://runs/one"
KILLED = """
import sys, tempfile, time
from trainers.staging import scratch, staging
tempfile.tempdir = sys.argv[1]
part = staging("memory://runs/one")
(part.path / "engine.pt").write_text("x")
with scratch() as folder:
    (folder / "engine.pt").write_text("x")
    print("made", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_part_lies_beside_a_local_run_and_elsewhere_on_the_workers_disk(temporary: Path) -> None:
    run = temporary / "run"
    beside, away = staging(str(run)), staging(BUCKET)
    assert beside.path.is_relative_to(run / "checkpoints")
    assert away.path.is_relative_to(temporary)
    assert not away.path.is_relative_to(run)
    for folder in (beside, away):
        (folder.path / "x").write_text("x")
        folder.close()
        assert not folder.path.exists()


def test_what_killed_workers_left_on_a_disk_is_removed_by_the_next(temporary: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(temporary)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    staging(BUCKET).close()
    assert len(list(temporary.rglob("engine.pt"))) == 2  # it is alive
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with scratch() as folder:
        assert list(temporary.iterdir()) == [folder.parent]
    assert list(temporary.iterdir()) == []


def test_what_they_staged_in_a_run_is_swept_away(temporary: Path) -> None:
    staging(str(temporary / "run"))
    sweep(str(temporary / "run"))
    assert list((temporary / "run" / "checkpoints").iterdir()) == []
    sweep(str(temporary / "new"))
    sweep(BUCKET)


def test_a_temporary_disk_that_is_full_is_one_line(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(StorageError, match=f"{temporary}: .*full"), scratch():
        pass
