"""ZeRO stages through the whole system: killed and resumed."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from cluster.session import Session
from tests.integration.conftest import lines_of, tar_recipe
from tests.integration.test_run import command
from trainers.checkpoint import commit_at, committed

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_killed_run_goes_on_from_every_stage_and_with_fewer_workers(
    ray_cluster: Session, tars: str, tmp_path: Path, stage: int
) -> None:
    out = tmp_path / "run"
    profile = tmp_path / "profile.yaml"
    profile.write_text(f"workers: 2\nengine: {{zero_stage: {stage}}}\nreader: {{tasks_ahead: 1}}\n")
    recipe = tar_recipe(tars, commit_every=64)
    line = [*command(recipe, tmp_path, out), "--profile", str(profile)]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not committed(str(out)):
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline, "no commit in time"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first, after = committed(str(out))[0], (stage + 1) % 4
    assert commit_at(str(out), first).state().zero_stage == stage
    # It goes on with one worker, and under another stage.
    profile.write_text(f"engine: {{zero_stage: {after}}}\nreader: {{tasks_ahead: 1}}\n")
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "summary.json").read_text())["samples_seen"] == 320
    assert commit_at(str(out), 320).state().zero_stage == after
    assert [x["samples"] for x in lines_of(out)] == list(range(16, 321, 16))
