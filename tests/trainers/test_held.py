from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from trainers.held import HeldFolder

KILLED = """
import sys, time
from pathlib import Path
from trainers.held import HeldFolder
held = HeldFolder(Path(sys.argv[1]), "held-")
(held.path / "moments").write_text("x")
print(held.path, flush=True)
time.sleep(60)
"""

# Gone between the two removals: what lies inside comes first, the lock with the second.
CUT_SHORT = """
import os, shutil, sys
from pathlib import Path
from trainers.held import HeldFolder
held = HeldFolder(Path(sys.argv[1]), "held-")
(held.path / "moments").write_text("x")
print(held.path, flush=True)
remove, removed = shutil.rmtree, []

def once(folder, **options):
    if removed:
        os._exit(1)
    removed.append(folder)
    remove(folder, **options)

shutil.rmtree = once
held.close()
"""


def test_a_folder_is_gone_when_it_is_closed(tmp_path: Path) -> None:
    held = HeldFolder(tmp_path, "held-")
    (held.path / "moments").write_text("x")
    held.close()
    assert list(tmp_path.iterdir()) == []


def test_folders_in_use_are_left_alone(tmp_path: Path) -> None:
    first, second = HeldFolder(tmp_path, "held-"), HeldFolder(tmp_path, "held-")
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
    alive = HeldFolder(tmp_path, "held-")
    assert (left / "moments").exists()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (left / "moments").exists()
    HeldFolder(tmp_path, "held-").close()
    assert not left.exists()
    assert alive.path.is_dir()
    alive.close()


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "held-being-made").mkdir()  # its lock is not there yet
    HeldFolder(tmp_path, "held-").close()
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "held-being-made"}


def test_a_removal_that_was_cut_short_is_finished_by_the_next(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CUT_SHORT, str(tmp_path)]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    left = Path(process.stdout.strip())
    assert process.returncode == 1
    assert not left.exists()
    assert (left.parent / "lock").exists()  # without it the rest would stay for ever
    HeldFolder(tmp_path, "held-").close()
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_that_somebody_has_put_there_holds_up_nobody(tmp_path: Path) -> None:
    other = tmp_path / "held-x"
    other.mkdir()
    os.mkfifo(other / "lock")
    HeldFolder(tmp_path, "held-").close()
    assert (other / "lock").exists()
