from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.shards import storage
from trainers.core.evaluation import EvaluationRequest, EvaluationResult
from trainers.requests import (
    FileSink,
    Inbox,
    done,
    file_result,
    filed,
    read_request,
    request_url,
    requested,
    unanswered,
)

UNKNOWN = (
    b'{"run": "", "folder": "/", "checkpoint": "c", "digest": "d", "samples": 64, '
    b'"evaluations": [{"kind": "of a later version"}]}'
)


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
    assert [r.samples for r in Inbox(str(tmp_path)).look()] == [64, 128, 2000]


def test_a_run_without_requests_has_none(tmp_path: Path) -> None:
    assert Inbox(str(tmp_path)).look() == []
    assert requested(str(tmp_path)) == set()


def test_a_request_is_read_once_and_again_where_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, read = str(tmp_path), list[str]()
    real = storage.read_bytes

    def counted(url: str) -> bytes:
        read.append(Path(url).stem)
        return real(url)

    monkeypatch.setattr(storage, "read_bytes", counted)
    sink, inbox = FileSink(run), Inbox(run)
    sink.submit(request(run, 64))
    assert inbox.look() == inbox.look()
    sink.submit(request(run, 128))
    sink.submit(request(run, 64, digest="another"))
    assert [found.digest for found in inbox.look()] == ["another", "d"]
    assert read == ["000000000064", "000000000064", "000000000128"]
    assert requested(run) == {64, 128}


@pytest.mark.parametrize("content", [b"{", b"\xff", b'{"of": "another version"}', UNKNOWN])
def test_a_request_that_cannot_be_read_is_told_and_holds_up_no_other(
    tmp_path: Path, content: bytes
) -> None:
    run = str(tmp_path)
    for samples in (64, 128):
        FileSink(run).submit(request(run, samples))
    Path(request_url(run, 64)).write_bytes(content)
    inbox = Inbox(run)
    assert [found.samples for found in [*inbox.look(), *inbox.look()]] == [128, 128]
    (fault,) = inbox.faults
    assert fault == (
        f"{request_url(run, 64)}: not a request of this version; delete it and run again"
    )
    assert unanswered(run, 64)


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
    found = read_request(request_url(str(new), 64))
    assert found.run == str(new)
    assert found.checkpoint == f"{new}/checkpoints/000000000064"
    assert done(found) == {("knn", "a")}
    assert not unanswered(str(new), 64)


def test_a_filed_error_holds_no_credentials(tmp_path: Path) -> None:
    failed = result(64, "a").model_copy(update={"error": "401 for https://me:hunter22@host/x"})
    file_result(str(tmp_path), failed)
    assert [r.error for r in filed(str(tmp_path), 64)] == ["401 for https://***@host/x"]
