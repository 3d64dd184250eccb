"""Evaluation requests as files: they outlive whoever made them."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from pipelines.core import Config
from pipelines.shards import storage
from trainers.checkpoint import Commit, name_of
from trainers.core.evaluation import EvaluationRequest, EvaluationResult
from trainers.recipe import EVALUATIONS


class FileSink:
    """Leaves requests in ``RUN/evaluations/requests``, where the cluster side finds them."""

    def __init__(self, run: str):
        self._run = run

    def submit(self, request: EvaluationRequest) -> None:
        """Write one small file."""
        url = request_url(self._run, request.samples)
        storage.write_text(url, request.model_dump_json(indent=1))


def request_for(
    run: str, folder: str, commit: Commit, evaluations: Sequence[Config]
) -> EvaluationRequest:
    """Ask for a commit's evaluations; relative paths in them are of ``folder``."""
    return EvaluationRequest(
        run=run,
        folder=folder,
        checkpoint=commit.url,
        digest=commit.digest,
        samples=commit.samples,
        evaluations=tuple(EVALUATIONS.dump(evaluation) for evaluation in evaluations),
    )


def read_request(url: str) -> EvaluationRequest:
    """Read a request; the run and its checkpoint are where the file is, if they were moved, too."""
    request = EvaluationRequest.model_validate_json(storage.read_text(url))
    run = url.rpartition("/evaluations/requests/")[0]
    checkpoint = storage.join(run, "checkpoints", name_of(request.samples))
    return request.model_copy(update={"run": run, "checkpoint": checkpoint})


def request_url(run: str, samples: int) -> str:
    """Where a commit's evaluations are asked for."""
    return storage.join(run, "evaluations", "requests", f"{name_of(samples)}.json")


def pending(run: str) -> list[EvaluationRequest]:
    """All requests of a run, oldest first."""
    folder = storage.join(run, "evaluations", "requests")
    names = [name for name in storage.names(folder) if name.endswith(".json") and name[0] != "."]
    return [read_request(storage.join(folder, name)) for name in names]


def unanswered(run: str, samples: int) -> bool:
    """Whether a commit's evaluations were asked for and are not all filed."""
    url = request_url(run, samples)
    if not storage.exists(url):
        return False
    request = read_request(url)
    return len(done(request)) < len(request.evaluations)


def result_url(run: str, samples: int, evaluation: str, dataset: str) -> str:
    """Where a result is filed."""
    return storage.join(run, "evaluations", name_of(samples), f"{evaluation}-{dataset}.json")


def file_result(run: str, result: EvaluationResult) -> None:
    """File a result, whole or not at all."""
    url = result_url(run, result.samples, result.evaluation, result.dataset)
    storage.write_text(url, result.model_dump_json(indent=1))


def filed(run: str, samples: int) -> list[EvaluationResult]:
    """All results of one commit."""
    folder = storage.join(run, "evaluations", name_of(samples))
    results = []
    for name in storage.names(folder):
        if name.endswith(".json") and not name.startswith("."):
            try:
                text = storage.read_text(storage.join(folder, name))
                results.append(EvaluationResult.model_validate_json(text))
            except ValidationError:
                continue  # not ours, or of another version: it will be made again
    return results


def judged(run: str) -> list[int]:
    """Sample counts of all commits with results, those included that are no longer kept."""
    names = storage.names(storage.join(run, "evaluations"))
    return [int(name) for name in names if name.isascii() and name.isdigit()]


def done(request: EvaluationRequest) -> set[tuple[str, str]]:
    """Names (evaluation, dataset) of a request's filed results, of this very checkpoint."""
    results = filed(request.run, request.samples)
    return {(r.evaluation, r.dataset) for r in results if r.digest == request.digest}
