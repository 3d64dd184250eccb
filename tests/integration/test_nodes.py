"""Nodes that come and go: each a run on a cluster of its own, in another process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.verify import verify_run
from tests.integration.conftest import lines_of
from tests.integration.two_nodes import SAMPLES, events_of
from trainers.checkpoint import committed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tars: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {what: _run(what, tars, tmp_path_factory.mktemp(what)) for what in ("whole", "kill")}


def _run(what: str, tars: str, folder: Path) -> Path:
    line = [sys.executable, "-m", "tests.integration.two_nodes", what, tars, str(folder / "run")]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    told = next(text for text in done.stdout.splitlines() if text.startswith('{"'))
    (folder / "run" / "told.json").write_text(told)
    return folder / "run"


def _exact(run: Path, samples: int = 4_800) -> None:
    keys: list[str] = []
    audit = verify_run(str(run), keys.append)
    assert audit["exact"], audit["examples"]
    assert len(keys) == committed(str(run))[-1] == samples


def test_a_killed_node_costs_less_than_a_minute_and_no_sample(runs: dict[str, Path]) -> None:
    run = runs["kill"]
    told = json.loads((run / "told.json").read_text())
    assert told["went_on"] - told["noticed"] < 60
    texts = [event["text"] for event in events_of(run)]
    assert any("with 1 of 2 workers" in text for text in texts)
    assert any("a training worker failed" in text for text in texts)
    _exact(run)
    _exact(runs["whole"])


def test_fewer_workers_see_the_same_batches_and_losses(runs: dict[str, Path]) -> None:
    whole, parts = lines_of(runs["whole"]), lines_of(runs["kill"])
    assert [x["samples"] for x in parts] == [x["samples"] for x in whole]
    for a, b in zip(whole, parts, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)


def test_a_node_that_is_announced_to_go_loses_no_step(tars: str, tmp_path: Path) -> None:
    run = _run("drain", tars, tmp_path)
    texts = [event["text"] for event in events_of(run)]
    assert any("with 1 of 2 workers" in text for text in texts)
    assert not any("failed" in text for text in texts)
    assert any(samples % 480 for samples in committed(str(run)))  # a commit before it left
    _exact(run)


def test_a_run_takes_up_a_node_that_comes(tars: str, tmp_path: Path) -> None:
    run = _run("grow", tars, tmp_path)
    first, *others = [event["text"] for event in events_of(run)]
    assert "with 1 of 2 workers" in first
    assert any("went on" in text and "of 2" not in text for text in others)
    _exact(run, SAMPLES["grow"])
