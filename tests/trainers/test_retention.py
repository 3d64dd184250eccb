from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.trainers.conftest import make_commit, small_recipe
from trainers.checkpoint import State, committed
from trainers.core.engine import OptimizerConfig
from trainers.core.evaluation import EvaluationRequest, EvaluationResult, Outcome
from trainers.core.objective import Surroundings
from trainers.objectives.rotation import Rotation
from trainers.requests import FileSink, file_result
from trainers.retention import Retention, prune, superfluous
from trainers.torch_engine import TorchEngine

COMMITS = [64, 128, 192, 256, 320]


@pytest.mark.parametrize(
    ("keep", "gone"),
    [
        ({}, []),
        ({"every": 100, "best": "knn/a"}, []),
        ({"last": 1}, [64, 128, 192, 256]),
        ({"last": 2}, [64, 128, 192]),
        ({"last": 9}, []),
        ({"last": 1, "every": 128}, [64, 192]),
        ({"last": 1, "every": 100}, [64, 192]),  # 128 and 256 are the first after 100 and 200
        ({"last": 1, "best": "knn/a"}, [64, 192, 256]),
        ({"last": 1, "every": 192, "best": "knn/a"}, [64, 256]),
    ],
)
def test_what_nothing_asks_to_keep(keep: dict[str, object], gone: list[int]) -> None:
    scores = {64: 0.1, 128: 0.9, 192: 0.5}
    config = Retention.model_validate(keep)
    assert superfluous(COMMITS, config, scores if config.best else {}) == gone


def test_of_equal_scores_the_newest_is_best() -> None:
    keep = Retention(last=1, best="knn/a")
    assert superfluous(COMMITS, keep, {64: 0.5, 192: 0.5}) == [64, 128, 256]


@given(
    st.lists(st.integers(1, 10_000), unique=True, min_size=1, max_size=40).map(sorted),
    st.integers(1, 5),
    st.integers(0, 500),
)
def test_pruning_again_removes_nothing_and_the_newest_stay(
    commits: list[int], last: int, every: int
) -> None:
    keep = Retention(last=last, every=every)
    left = [c for c in commits if c not in superfluous(commits, keep, {})]
    assert left[-last:] == commits[-last:]
    assert superfluous(left, keep, {}) == []


@pytest.mark.parametrize("wrong", [{"last": 0}, {"every": -1}, {"best": "knn"}, {"newest": 1}])
def test_what_cannot_be_kept_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Retention.model_validate(wrong)


@pytest.fixture
def run(tmp_path: Path) -> str:
    url = str(tmp_path / "run")
    engine = TorchEngine(
        Rotation(Rotation.Config(), Surroundings(size=16)), OptimizerConfig(), torch.device("cpu")
    )
    for samples in COMMITS[:3]:
        state = State(
            samples=samples, cursors=(), clock={}, world_size=1, zero_stage=0, recipe="r", data="d"
        )
        made = make_commit(url, engine, state, {"recipe.yaml": small_recipe().to_yaml()})
        request = EvaluationRequest(
            run=url,
            folder="/",
            checkpoint=made.url,
            digest=made.digest,
            samples=samples,
            evaluations=({"kind": "knn", "name": "a"},),
        )
        FileSink(url).submit(request)
    return url


def answer(run: str, samples: int, score: float, digest: str | None = None) -> None:
    import hashlib

    manifest = Path(run) / "checkpoints" / f"{samples:012d}" / "manifest.json"
    outcome = Outcome(metrics={"x": score}, headline="x", chance=0, examples=1, interval=(0, 1))
    result = EvaluationResult(
        evaluation="knn",
        dataset="a",
        samples=samples,
        checkpoint="c",
        digest=digest or hashlib.sha256(manifest.read_bytes()).hexdigest(),
        status="ok",
        seconds=0.0,
        outcome=outcome,
    )
    file_result(run, result)


def test_a_commit_stays_until_its_evaluations_are_filed(run: str) -> None:
    assert prune(run, Retention(last=1)) == []
    answer(run, 64, 0.5)
    assert prune(run, Retention(last=1)) == [64]
    assert committed(run) == [128, 192]
    assert not (Path(run) / "checkpoints" / f"{64:012d}").exists()


def test_scores_of_other_evaluations_keep_nothing(run: str) -> None:
    for samples, score in ((64, 0.9), (128, 0.2), (192, 0.3)):
        answer(run, samples, score)
    assert prune(run, Retention(last=1, best="knn/other")) == [64, 128]
    assert committed(run) == [192]


def test_the_best_is_kept(run: str) -> None:
    for samples, score in ((64, 0.9), (128, 0.2), (192, 0.3)):
        answer(run, samples, score)
    assert prune(run, Retention(last=1, best="knn/a")) == [128]
    assert committed(run) == [64, 192]


def test_a_score_of_a_commit_that_was_made_again_keeps_nothing(run: str) -> None:
    answer(run, 64, 0.8)
    answer(run, 128, 0.2)
    answer(run, 192, 0.9, digest="old")
    assert prune(run, Retention(last=1, best="knn/a")) == [128]
    assert committed(run) == [64, 192]


def test_a_damaged_commit_keeps_nothing_and_stops_nothing(run: str) -> None:
    for samples, score in ((64, 0.9), (128, 0.2), (192, 0.3)):
        answer(run, samples, score)
    (Path(run) / "checkpoints" / f"{64:012d}" / "manifest.json").write_text("{")
    assert prune(run, Retention(last=1, best="knn/a")) == [64, 128]
