"""A run's process as a user meets it who stops it, or starts it twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainers.checkpoint import committed

pytestmark = pytest.mark.slow


def command(out: Path, samples: int) -> list[str]:
    words = ["train", "debug", "--out", str(out), "--set", "evaluations=[]"]
    changes = [f"samples={samples}", "commit_every=1024"]
    return [sys.executable, "-m", "cluster", *words, *(w for c in changes for w in ("--set", c))]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run that has committed and would go on for hours."""
    process = subprocess.Popen(
        command(tmp_path, 10**9), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not committed(str(tmp_path)):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_says_so_and_frees_its_folder(
    running: subprocess.Popen[str], tmp_path: Path, stop: signal.Signals
) -> None:
    second = subprocess.run(
        command(tmp_path, 10**9), capture_output=True, text=True, check=False, timeout=120
    )
    assert second.returncode == 1
    assert f"another run is at work there, process {running.pid} on " in second.stderr
    running.send_signal(stop)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert errors.splitlines()[-1] == "eagleray: stopped; run the same command again to go on"
    assert "Traceback" not in errors
    assert "SIGTERM" not in errors
    assert not (tmp_path / "alive.json").exists()


def test_a_run_that_is_killed_leaves_its_folder_to_the_next(
    running: subprocess.Popen[str], tmp_path: Path
) -> None:
    running.kill()
    running.wait(timeout=60)
    done = max(committed(str(tmp_path)))
    again = subprocess.Popen(command(tmp_path, 10**9), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while max(committed(str(tmp_path))) <= done:
        assert again.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    again.send_signal(signal.SIGINT)
    assert again.wait(timeout=60) == 130
