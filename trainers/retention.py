"""Which commits of a run are kept, and the removal of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from pipelines.core import Config, StorageError
from trainers.checkpoint import commit_at, committed, discard
from trainers.requests import filed, unanswered


class Retention(Config):
    """Which commits are kept; the newest always is, and one that an evaluation still needs.

    Attributes:
        last: How many of the newest; None for all of them.
        every: Samples: the first commit at or after each multiple is kept; 0 for none.
        best: ``EVALUATION/NAME`` whose best commit is kept, for example ``zero_shot/shift``.
    """

    last: int | None = Field(default=None, ge=1)
    every: int = Field(default=0, ge=0)
    best: str | None = Field(default=None, pattern=r"[^/]+/[^/]+")


def superfluous(commits: Sequence[int], keep: Retention, scores: Mapping[int, float]) -> list[int]:
    """Name the commits that nothing asks to keep.

    Args:
        commits: Sample counts, ascending.
        keep: What is kept.
        scores: Of the commits that ``keep.best`` has judged; more is better.
    """
    if keep.last is None:
        return []
    kept = set(commits[-keep.last :])
    if keep.every:
        marks = {samples // keep.every for samples in commits}
        kept |= {next(c for c in commits if c // keep.every == mark) for mark in marks if mark}
    judged = [(score, samples) for samples, score in scores.items() if samples in commits]
    if judged:
        kept.add(max(judged)[1])
    return [samples for samples in commits if samples not in kept]


def prune(run: str, keep: Retention) -> list[int]:
    """Remove a run's superfluous commits, but none whose evaluations are not all filed.

    Returns:
        Sample counts of what was removed.
    """
    if keep.last is None:
        return []
    commits = committed(run)
    gone = superfluous(commits, keep, _scores(run, commits, keep.best))
    gone = [samples for samples in gone if not unanswered(run, samples)]
    for samples in gone:
        discard(run, samples)
    return gone


def _scores(run: str, commits: Sequence[int], best: str | None) -> dict[int, float]:
    if best is None:
        return {}
    return {
        samples: result.outcome.metrics[result.outcome.headline]
        for samples in commits
        for result in filed(run, samples)
        if result.outcome is not None
        and f"{result.evaluation}/{result.dataset}" == best
        # Not of a commit that was removed and made again since.
        and result.digest == _digest(run, samples)
    }


def _digest(run: str, samples: int) -> str:
    """Of a commit; empty where it is damaged, whose score keeps nothing."""
    try:
        return commit_at(run, samples).digest
    except StorageError:
        return ""
