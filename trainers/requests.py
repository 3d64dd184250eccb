"""Evaluation requests as files: they outlive whoever made them."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from pipelines.core import Config, DataError
from pipelines.shards import storage
from trainers.checkpoint import MANIFEST, Commit, name_of
from trainers.core.evaluation import EvaluationRequest, EvaluationResult
from trainers.recipe import EVALUATIONS

_OTHER = "not a request of this version; delete it and run again"


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
    """Read a request; the run and its checkpoint are where the file is, if they were moved, too.

    Raises:
        DataError: It is damaged, or of another version.
    """
    try:
        request = EvaluationRequest.model_validate_json(storage.read_bytes(url))
    except ValueError:
        raise DataError(f"{url}: {_OTHER}") from None
    run = url.rpartition("/evaluations/requests/")[0]
    checkpoint = storage.join(run, "checkpoints", name_of(request.samples))
    return request.model_copy(update={"run": run, "checkpoint": checkpoint})


def request_url(run: str, samples: int) -> str:
    """Where a commit's evaluations are asked for."""
    return storage.join(_requests(run), f"{name_of(samples)}.json")


class Inbox:
    """A run's requests; each is read once, and again where it has changed.

    Args:
        run: URL of the run.

    Attributes:
        faults: Why some cannot be read.
    """

    def __init__(self, run: str):
        self._folder = _requests(run)
        self._read: dict[str, tuple[str, EvaluationRequest | None]] = {}
        self.faults: list[str] = []

    def look(self) -> list[EvaluationRequest]:
        """All that can be read, oldest first."""
        for name, stamp in sorted(storage.stamps(self._folder).items()):
            if _is_request(name) and self._read.get(name, ("", None))[0] != stamp:
                self._read[name] = stamp, self._open(name)
        return [request for _, (_, request) in sorted(self._read.items()) if request is not None]

    def _open(self, name: str) -> EvaluationRequest | None:
        url = storage.join(self._folder, name)
        try:
            request = read_request(url)
            for evaluation in request.evaluations:
                EVALUATIONS.parse(evaluation)
        except (DataError, ValueError):
            self.faults.append(f"{url}: {_OTHER}")
            return None
        return request


def _requests(run: str) -> str:
    return storage.join(run, "evaluations", "requests")


def _is_request(name: str) -> bool:
    return name.removesuffix(".json").isdecimal() and name.endswith(".json")


def requested(run: str) -> set[int]:
    """Sample counts of the commits whose evaluations were asked for."""
    return {int(name[:-5]) for name in storage.names(_requests(run)) if _is_request(name)}


def unanswered(run: str, samples: int) -> bool:
    """Whether a commit's evaluations were asked for and are not all filed.

    A request that cannot be read has no answer: its commit stays until it is asked for again.
    """
    url = request_url(run, samples)
    if not storage.exists(url):
        return False
    try:
        request = read_request(url)
    except DataError:
        return True
    return len(done(request)) < len(request.evaluations)


def forget_failures(request: EvaluationRequest) -> bool:
    """Take back a request's failed results, where its commit is there to be evaluated again.

    What they wanted may be there by now: whoever starts a run again has put something right.

    Returns:
        Whether there were any.
    """
    failed = [
        result
        for result in filed(request.run, request.samples)
        if result.status == "failed" and result.digest == request.digest
    ]
    if not failed or not storage.exists(storage.join(request.checkpoint, MANIFEST)):
        return False
    for result in failed:
        place = result_url(request.run, result.samples, result.evaluation, result.dataset)
        storage.remove(place)
    return True


def result_url(run: str, samples: int, evaluation: str, dataset: str) -> str:
    """Where a result is filed."""
    return storage.join(run, "evaluations", name_of(samples), f"{evaluation}-{dataset}.json")


def file_result(run: str, result: EvaluationResult) -> None:
    """File a result, whole or not at all; credentials in its error are hidden."""
    if result.error is not None:
        result = result.model_copy(update={"error": storage.redact(result.error)})
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
