"""Whole runs on the shared cluster: stream, engine, commits, evaluation jobs, report."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import ray
import torch

from cluster import submit
from cluster.profile import Profile, load_profile
from cluster.run import Finished, train_run
from cluster.session import Session
from cluster.skipped import Skipped, read_skipped, write_skipped
from pipelines.core import StorageError, UserError
from pipelines.decode.tokenizer import Tokenizer
from tests.integration.conftest import SAMPLES, lines_of, tar_recipe, train_workers
from tests.integration.poison import poisoned
from tests.trainers.conftest import builder_of, tables_of
from trainers.checkpoint import committed
from trainers.loop import Plan, train
from trainers.meter import Clock
from trainers.model import build_objective
from trainers.recipe import Recipe
from trainers.torch_engine import TorchEngine

pytestmark = pytest.mark.ray
STEPS = 20


def silent(run: str, planned: int) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def train_here(recipe: Recipe, profile: Profile, out: Path) -> Finished:
    said: list[str] = []
    return train_run(recipe, profile, str(out), command="test", watch=silent, say=said.append)


def command(recipe: Recipe, folder: Path, out: Path) -> list[str]:
    path = folder / "recipe.yaml"
    path.write_text(recipe.to_yaml())
    address = ray.get_runtime_context().gcs_address
    return [
        *(sys.executable, "-m", "cluster", "train", str(path)),
        *("--out", str(out), "--cluster", address),
    ]


def plain_lines(recipe: Recipe, run: Path) -> list[dict[str, float]]:
    """What a loop in this process logs, with the tokenizer of a run."""
    lines: list[dict[str, float]] = []

    class Hooks:
        def first(self, *_: object) -> None: ...

        def log(self, metrics: dict[str, float], samples: int) -> None:
            lines.append(metrics)

        def look(self, *_: object) -> dict[str, float]:
            return {}

        def quarantine(self, *_: object) -> None: ...

        def leaves(self) -> bool:
            return False

        def commit(self, *_: object) -> float:
            return 0.0

    assert recipe.tokenizer is not None
    tokenizer = Tokenizer.from_json((run / "tokenizer.json").read_text(), recipe.tokenizer.length)
    objective = build_objective(recipe, tokenizer)
    engine = TorchEngine(objective, recipe.optimizer, torch.device("cpu"))
    plan = Plan(16, recipe.steps, 1, 10_000, 0.01, SAMPLES)
    builder = builder_of(recipe, objective, tokenizer)
    train(engine, tables_of(recipe), builder, plan, recipe.optimizer, Hooks(), 0, Clock())
    return lines


@pytest.fixture(scope="module")
def uninterrupted(
    ray_cluster: Session, tars: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("runs") / "uninterrupted"
    train_here(tar_recipe(tars), load_profile("laptop"), out)
    return out


def test_a_run_with_evaluations_ends_with_everything_in_its_place(
    ray_cluster: Session, tars: str, tmp_path: Path
) -> None:
    evaluations = [
        {"kind": "zero_shot", "name": "shapes", "data": tars},
        {
            "kind": "knn",
            "name": "shapes",
            "data": tars.replace("*", "2"),
            "reference": tars.replace("*", "{0,1}"),
        },
        {"kind": "zero_shot", "name": "missing", "data": f"{tars}.not-there"},
    ]
    recipe = tar_recipe(tars, evaluations=evaluations)
    finished = train_here(recipe, load_profile("laptop"), tmp_path / "run")
    summary = finished.summary
    assert summary["samples_seen"] == 320
    assert summary["world_size"] == 2
    assert summary["checkpoints"] == [160, 320]
    assert 0 <= summary["data_wait_share"] <= 1
    assert set(summary["seconds"]) == {"data", "train", "evaluate", "total"}
    done = {(e["evaluation"], e["dataset"], e["samples"]) for e in summary["evaluations"]}
    assert done == {(kind, "shapes", n) for kind in ("zero_shot", "knn") for n in (160, 320)}
    examples = {e["evaluation"]: e["examples"] for e in summary["evaluations"]}
    assert examples == {"zero_shot": SAMPLES, "knn": SAMPLES // 3}
    failures = {(f["dataset"], f["samples"]) for f in summary["failures"]}
    assert failures == {("missing", 160), ("missing", 320)}  # reported; training went on
    assert "no file matches" in summary["failures"][0]["error"]
    page = Path(finished.report).read_text()
    assert "zero_shot" in page
    assert "no file matches" in page
    assert json.loads((tmp_path / "run" / "run.json").read_text())["finished"] is True


def test_one_worker_two_workers_and_a_plain_loop_have_one_loss_curve(
    uninterrupted: Path, tars: str, tmp_path: Path
) -> None:
    recipe = tar_recipe(tars)
    train_here(recipe, load_profile("laptop", ("workers=1",)), tmp_path / "one")
    plain = plain_lines(recipe, uninterrupted)
    two, one = lines_of(uninterrupted), lines_of(tmp_path / "one")
    assert len(one) == len(two) == len(plain) == STEPS
    for a, b, c in zip(one, two, plain, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
        assert c["loss"] == pytest.approx(a["loss"], rel=1e-4)
    assert one[-1]["loss"] < one[0]["loss"]


def test_killed_and_started_again_it_ends_as_if_nothing_had_happened(
    uninterrupted: Path, tars: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    recipe = tar_recipe(tars, commit_every=64)
    line = command(recipe, tmp_path, out)
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(committed(str(out))) < 2:  # killed somewhere after so many commits
        assert time.monotonic() < deadline, "no commit in time"
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    summary = train_here(recipe, load_profile("laptop"), out).summary
    assert summary["samples_seen"] == 320
    assert summary["checkpoints"] == [64, 128, 192, 256, 320]
    whole, parts = lines_of(uninterrupted), lines_of(out)
    assert [x["samples"] for x in parts] == [x["samples"] for x in whole]
    for a, b in zip(whole, parts, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-6)


def test_batches_whose_loss_is_not_finite_are_left_out_until_too_many_are(
    ray_cluster: Session, tars: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    optimizer = {"learning_rate": 1e30, "clip": 0.0}  # the first update breaks every later loss
    recipe = tar_recipe(tars, optimizer=optimizer, rewinds=1)
    with pytest.raises(UserError, match="not finite at 48 samples; lower"):
        train_here(recipe, load_profile("laptop", ("workers=1",)), out)
    assert committed(str(out)) == []
    assert read_skipped(str(out)).steps == (2,)
    events = [event["text"] for event in json.loads((out / "run.json").read_text())["events"]]
    assert events[0] == "the batch of step 2 is left out: its loss was not finite"


def test_a_batch_that_is_left_out_changes_no_other(
    ray_cluster: Session, tars: str, tmp_path: Path
) -> None:
    # Where nothing is learned, a loss tells which samples a batch has, and how they were cut.
    recipe = tar_recipe(tars, optimizer={"learning_rate": 0.0})
    profile = load_profile("laptop", ("workers=1", "keep.last=1"))
    out = tmp_path / "run"
    out.mkdir()
    write_skipped(str(out), Skipped().and_step(3, 16))
    train_here(recipe, profile, out)
    assert committed(str(out)) == [320]
    expected = {x["step"]: x["loss"] for x in plain_lines(recipe, out) if x["step"] != 3}
    ordered = sorted(expected.values())
    assert min(b / a for a, b in itertools.pairwise(ordered)) > 1 + 2e-5
    assert {x["step"]: x["loss"] for x in lines_of(out)} == pytest.approx(expected, rel=1e-5)


def test_a_batch_that_breaks_the_loss_after_a_commit_is_left_out_from_there_on(
    uninterrupted: Path,
    ray_cluster: Session,
    tars: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, starts = tmp_path / "run", tmp_path / "starts"
    monkeypatch.setattr("cluster.worker_group.work", poisoned(13, starts))
    train_here(tar_recipe(tars), load_profile("laptop", ("workers=1",)), out)
    assert starts.read_text().split() == ["0", "10"]  # the commit of 160 samples
    assert read_skipped(str(out)).steps == (13,)
    events = [event["text"] for event in json.loads((out / "run.json").read_text())["events"]]
    assert events[0] == "the batch of step 13 is left out: its loss was not finite"
    assert committed(str(out)) == [160, 320]
    whole, parts = lines_of(uninterrupted), lines_of(out)
    assert [x["step"] for x in parts] == [x["step"] for x in whole if x["step"] != 13]
    for a, b in zip(whole[:12], parts[:12], strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
    assert all(math.isfinite(x["loss"]) for x in parts)
    assert parts[12]["loss"] != pytest.approx(whole[13]["loss"], rel=1e-6)  # one update less


@pytest.mark.parametrize(
    ("blow", "patience"),
    [
        (signal.SIGKILL, 1800),
        # The other worker waits for this one in a collective, and notices after its patience.
        pytest.param(signal.SIGSTOP, 15, marks=pytest.mark.slow),
    ],
)
def test_a_worker_that_is_dead_or_hangs_is_replaced(
    ray_cluster: Session, tars: str, tmp_path: Path, blow: signal.Signals, patience: int
) -> None:
    out = tmp_path / "run"
    recipe = tar_recipe(tars, samples=1600, commit_every=320)
    struck: list[int] = []

    def strike() -> None:
        while not committed(str(out)):
            time.sleep(0.05)
        worker, *_ = train_workers()
        worker.send_signal(blow)
        struck.append(worker.pid)

    striker = threading.Thread(target=strike, daemon=True)
    striker.start()
    finished = train_here(recipe, load_profile("laptop", (f"patience={patience}",)), out)
    assert struck
    assert not psutil.pid_exists(struck[0])
    assert finished.summary["samples_seen"] == 1600
    events = json.loads((out / "run.json").read_text())["events"]
    assert any("worker failed" in event["text"] for event in events)
    assert [x["samples"] for x in lines_of(out)] == list(range(16, 1601, 16))


def test_a_write_that_fails_in_a_worker_reaches_the_user_as_one_line(
    ray_cluster: Session, tars: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    recipe = tar_recipe(tars)

    # A file where the checkpoints' folder should be: the write fails as on a broken disk.
    out.mkdir()
    (out / "checkpoints").write_text("in the way")
    with pytest.raises(StorageError) as caught:
        train_here(recipe, load_profile("laptop", ("workers=1",)), out)
    assert "\n" not in str(caught.value)
    assert "nothing is lost up to the last commit" in str(caught.value)


def test_a_submitted_job_trains_on_the_cluster(
    ray_cluster: Session, tars: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    recipe = tar_recipe(tars)
    profile = "workers: 1\nreader: {cpus: 0.5, tasks_ahead: 1}\n"
    name = submit.submit(recipe, profile, str(out), ray_cluster.dashboard, sys.executable)
    said: list[str] = []
    submit.follow(name, ray_cluster.dashboard, said.append)
    assert json.loads((out / "summary.json").read_text())["samples_seen"] == 320
    assert (out / "report.html").exists()


def test_views_made_by_readers_are_those_that_the_worker_would_make(
    uninterrupted: Path, ray_cluster: Session, tars: str, tmp_path: Path
) -> None:
    there, run = load_profile("laptop", ("augment=readers",)), tmp_path / "run"
    train_here(tar_recipe(tars), there, run)
    # A worker that is given views has no originals to show beside them.
    assert [(place / "views.json").exists() for place in (uninterrupted, run)] == [True, False]
    for a, b in zip(lines_of(uninterrupted), lines_of(run), strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-5)
