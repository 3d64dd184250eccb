"""A run folder as frozen data: whatever is there, and notes on what is not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from pydantic import ValidationError

from cluster.report.facts import RunFacts, absent, parse_facts
from cluster.report.metrics import parse, parse_metrics
from pipelines.core import ConfigError, UserError
from pipelines.core.config import load_yaml
from pipelines.shards import storage
from trainers.checkpoint import committed
from trainers.core.evaluation import EvaluationResult, GalleryRow

_MARKS = ("run.json", "recipe.yaml", "metrics.jsonl")


@dataclass(frozen=True)
class RunView:
    """Everything the report shows of a run.

    Attributes:
        url: The run's folder.
        facts: Contents of ``run.json``.
        recipe: Text of ``recipe.yaml``.
        metrics: Lines of ``metrics.jsonl`` that led to the present model, by samples.
        checkpoints: Sample counts of the committed checkpoints, ascending.
        results: All evaluation results, by (samples, evaluation, dataset); with pictures the
            newest of each evaluation and dataset that has some.
        views: Pictures of augmented views.
        notes: What is missing or unreadable, one sentence each.
    """

    url: str
    facts: RunFacts
    recipe: str | None
    metrics: tuple[Mapping[str, float], ...]
    checkpoints: tuple[int, ...]
    results: tuple[EvaluationResult, ...]
    views: tuple[GalleryRow, ...]
    notes: tuple[str, ...]

    @property
    def evaluates(self) -> bool:
        """Whether its recipe asks for evaluations, or is not known."""
        return _evaluates(self.recipe)

    @property
    def samples_seen(self) -> int | None:
        """Samples trained on: as the run says or, before it does, as its last metrics say."""
        if self.facts.samples_seen is not None:
            return self.facts.samples_seen
        return int(self.metrics[-1]["samples"]) if self.metrics else None

    @property
    def failures(self) -> tuple[EvaluationResult, ...]:
        """Results without an outcome."""
        return tuple(result for result in self.results if result.outcome is None)

    def histories(self) -> dict[tuple[str, str], list[EvaluationResult]]:
        """Results that have an outcome, ascending in samples, by (evaluation, dataset)."""
        found: dict[tuple[str, str], list[EvaluationResult]] = {}
        for result in sorted(self.results, key=lambda r: (r.evaluation, r.dataset, r.samples)):
            if result.outcome is not None:
                found.setdefault((result.evaluation, result.dataset), []).append(result)
        return found


def read_run(run: str) -> RunView:
    """Read a run folder.

    Args:
        run: Any fsspec URL.

    Raises:
        UserError: There is no run.
        StorageError: The folder cannot be read.
    """
    with storage.explained(run):
        here = storage.names(run)
    if not any(mark in here for mark in _MARKS):
        raise UserError(f"{run}: no run there; a run's folder has one of {', '.join(_MARKS)}")
    notes = [f"There is no {mark}." for mark in _MARKS if mark not in here]
    facts = _facts(run, notes) if "run.json" in here else RunFacts()
    text = storage.read_bytes(storage.join(run, "metrics.jsonl")) if _MARKS[2] in here else b""
    metrics, damaged = parse_metrics(text.decode(errors="replace"))
    if damaged:
        notes.append(f"{damaged} lines of metrics.jsonl cannot be read and are left out.")
    recipe = storage.read_bytes(storage.join(run, "recipe.yaml")) if _MARKS[1] in here else None
    checkpoints = tuple(committed(run))
    if not checkpoints:
        notes.append("No checkpoint has been committed.")
    results = _results(run)
    written = None if recipe is None else recipe.decode(errors="replace")
    if not results and _evaluates(written):
        notes.append("No evaluation has reported.")
    views = _views(run, notes) if "views.json" in here else ()
    return RunView(
        url=storage.join(run),
        facts=facts,
        recipe=written,
        metrics=metrics,
        checkpoints=checkpoints,
        results=results,
        views=views,
        notes=tuple(notes),
    )


def _evaluates(recipe: str | None) -> bool:
    try:
        return load_yaml(recipe or "", "recipe.yaml").get("evaluations") != []
    except ConfigError:
        return True


def _facts(run: str, notes: list[str]) -> RunFacts:
    data = parse(storage.read_bytes(storage.join(run, "run.json")))
    if not isinstance(data, dict):
        notes.append("run.json cannot be read.")
        return RunFacts()
    facts, bad = parse_facts(data)
    missing = [name for name in absent(facts) if name not in bad]
    if bad:
        notes.append(f"Keys of run.json that cannot be read: {', '.join(bad)}.")
    if missing:
        notes.append(f"Not in run.json: {', '.join(missing)}.")
    return facts


def _results(run: str) -> tuple[EvaluationResult, ...]:
    root = storage.join(run, "evaluations")
    files = [
        (int(folder), storage.join(root, folder, name))
        for folder in storage.names(root)
        if folder.isascii() and folder.isdigit()
        for name in storage.names(storage.join(root, folder))
        if name.endswith(".json") and not name.startswith(".")
    ]
    files.sort(reverse=True)
    with ThreadPoolExecutor(8) as pool:  # an object store answers each in tens of milliseconds
        results = list(_latest_pictures(pool.map(lambda file: _result(*file), files)))
    return tuple(sorted(results, key=lambda r: (r.samples, r.evaluation, r.dataset)))


def _latest_pictures(results: Iterable[EvaluationResult]) -> Iterator[EvaluationResult]:
    """Results, newest first, without pictures that nobody is shown: a long run has gigabytes."""
    shown: set[tuple[str, str]] = set()
    for result in results:
        name = (result.evaluation, result.dataset)
        if result.outcome is not None and result.outcome.gallery:
            if name in shown:
                plain = result.outcome.model_copy(update={"gallery": ()})
                result = result.model_copy(update={"outcome": plain})
            shown.add(name)
        yield result


def _result(samples: int, url: str) -> EvaluationResult:
    # Kinds are names of Python files, so the first dash ends the evaluation's name.
    evaluation, _, dataset = url.rpartition("/")[2].removesuffix(".json").partition("-")
    failed = partial(
        EvaluationResult,
        evaluation=evaluation,
        dataset=dataset,
        samples=samples,
        checkpoint="",
        digest="",
        status="failed",
        seconds=0.0,
    )
    try:
        result = EvaluationResult.model_validate(parse(storage.read_bytes(url)))
    except ValidationError:
        return failed(error="The result file cannot be read.")
    if result.status == "failed":
        return result.model_copy(update={"outcome": None})
    if result.outcome is None or result.outcome.headline not in result.outcome.metrics:
        return failed(error="The result file has no headline metric.")
    return result


def _views(run: str, notes: list[str]) -> tuple[GalleryRow, ...]:
    data = parse(storage.read_bytes(storage.join(run, "views.json")))
    try:
        rows = data["rows"] if isinstance(data, dict) else None
        return tuple(GalleryRow.model_validate(row) for row in rows or ())
    except (KeyError, TypeError, ValidationError):
        notes.append("views.json cannot be read.")
        return ()
