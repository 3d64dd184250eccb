"""A run that is killed again and again ends as one that never was, to the last bit."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray

from cluster.profile import load_profile
from cluster.session import Session
from tests.integration.conftest import lines_of, tar_recipe, train_workers
from tests.integration.test_run import train_here

pytestmark = [pytest.mark.ray, pytest.mark.slow]
KILLS = 20


def _grown(out: Path, process: subprocess.Popen[bytes]) -> bool:
    """Wait for the next line of metrics; whether one came before the run ended."""
    before = len(lines_of(out)) if (out / "metrics.jsonl").exists() else 0
    deadline = time.monotonic() + 120
    while process.poll() is None:
        assert time.monotonic() < deadline, "no step in two minutes"
        lines = len(lines_of(out)) if (out / "metrics.jsonl").exists() else 0
        if lines > before:
            return True
        before = lines  # a new attempt drops the lines after its commit
        time.sleep(0.01)
    return False


@pytest.mark.timeout(1500)
def test_killed_at_twenty_moments_it_has_the_losses_of_a_run_that_was_not(
    ray_cluster: Session, tars: str, tmp_path: Path
) -> None:
    recipe = tar_recipe(tars, samples=24_000, commit_every=480, log_every=1)
    train_here(recipe, load_profile("laptop", ("workers=2",)), tmp_path / "whole")
    out = tmp_path / "run"
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    (tmp_path / "profile.yaml").write_text("workers: 2\nrestarts: 100\n")
    line = [
        *(sys.executable, "-m", "cluster", "train", str(tmp_path / "recipe.yaml")),
        *("--profile", str(tmp_path / "profile.yaml"), "--out", str(out)),
        *("--cluster", ray.get_runtime_context().gcs_address),
    ]
    draw = random.Random(0)
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen(line, stdout=log, stderr=log)
    for number in range(KILLS):
        assert _grown(out, process), (
            f"ended after {number}: {(tmp_path / 'log').read_text()[-900:]}"
        )
        time.sleep(draw.uniform(0, 0.8))
        workers = train_workers()
        if workers and draw.random() < 0.5:
            draw.choice(workers).kill()
        else:
            process.kill()
            process.wait()
            process = subprocess.Popen(line, stdout=log, stderr=log)
    assert process.wait(timeout=600) == 0
    log.close()
    whole, parts = lines_of(tmp_path / "whole"), lines_of(out)
    assert len(whole) == 1500
    assert [(x["samples"], x["loss"], x["grad_norm"]) for x in parts] == [
        (x["samples"], x["loss"], x["grad_norm"]) for x in whole
    ]
