"""The steps that are measured: of what, where, how many, and how their rate is told."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cluster.profile import Profile
from trainers.recipe import Recipe


@dataclass(frozen=True)
class Stepping:
    """What all candidates do: the same steps of a recipe.

    Attributes:
        recipe: What is learned.
        profile: Where, with one worker.
        steps: How many are made; the first third goes by before the clock starts.
    """

    recipe: Recipe
    profile: Profile
    steps: int

    @property
    def warm(self) -> int:
        """Steps before the clock starts."""
        return self.steps // 3

    @property
    def clocked(self) -> Recipe:
        """The recipe for so many steps, with a commit at the end and as few lines as can be.

        A line of metrics waits for the device: between two of them it must not be disturbed.
        """
        samples = self.steps * self.recipe.global_batch
        changes = {
            "samples": samples,
            "commit_every": samples,
            "evaluations": (),
            "log_every": max(1, self.warm),
        }
        return self.recipe.model_copy(update=changes)


def read_lines(run: str) -> list[dict[str, float]]:
    """Lines of metrics of a run in a local folder."""
    text = (Path(run) / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def rate_between(lines: list[dict[str, float]]) -> float:
    """Samples/s from the first line of metrics to the last one."""
    first, last = lines[0], lines[-1]
    return float((last["samples"] - first["samples"]) / (last["seconds"] - first["seconds"]))
