from __future__ import annotations

from pathlib import Path

from trainers.core.evaluation import EvaluationRequest, EvaluationResult
from trainers.requests import FileSink, done, file_result, filed, pending, unanswered


def request(run: str, samples: int, digest: str = "d") -> EvaluationRequest:
    return EvaluationRequest(
        run=run, folder="/", checkpoint=f"{run}/c", digest=digest, samples=samples, evaluations=()
    )


def result(samples: int, dataset: str, digest: str = "d") -> EvaluationResult:
    return EvaluationResult(
        evaluation="knn",
        dataset=dataset,
        samples=samples,
        checkpoint="c",
        digest=digest,
        status="failed",
        seconds=1.0,
        error="none",
    )


def test_requests_come_back_oldest_first(tmp_path: Path) -> None:
    sink = FileSink(str(tmp_path))
    for samples in (2000, 64, 128):
        sink.submit(request(str(tmp_path), samples))
    assert [r.samples for r in pending(str(tmp_path))] == [64, 128, 2000]


def test_a_run_without_requests_has_none(tmp_path: Path) -> None:
    assert pending(str(tmp_path)) == []


def test_results_are_filed_by_commit(tmp_path: Path) -> None:
    run = str(tmp_path)
    file_result(run, result(64, "a"))
    file_result(run, result(64, "b"))
    file_result(run, result(128, "a"))
    assert [r.dataset for r in filed(run, 64)] == ["a", "b"]
    assert filed(run, 256) == []


def test_a_result_of_another_checkpoint_does_not_count(tmp_path: Path) -> None:
    run = str(tmp_path)
    file_result(run, result(64, "a", digest="old"))
    file_result(run, result(64, "b", digest="d"))
    assert done(request(run, 64)) == {("knn", "b")}


def test_a_damaged_result_is_made_again(tmp_path: Path) -> None:
    run = str(tmp_path)
    file_result(run, result(64, "a"))
    next((tmp_path / "evaluations").rglob("knn-a.json")).write_text("{")
    assert done(request(run, 64)) == set()


def test_a_run_that_was_moved_keeps_its_results(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    asked = request(str(old), 64).model_copy(update={"evaluations": ({"kind": "knn"},)})
    FileSink(str(old)).submit(asked)
    file_result(str(old), result(64, "a"))
    old.rename(new)
    (found,) = pending(str(new))
    assert found.run == str(new)
    assert found.checkpoint == f"{new}/checkpoints/000000000064"
    assert done(found) == {("knn", "a")}
    assert not unanswered(str(new), 64)
