"""What ``run.json`` says, read leniently: a key may be absent or unreadable, never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, JsonValue, ValidationError

from pipelines.core import Config


class _Lenient(Config):
    # A newer eagleray may write more than this one reads.
    model_config = ConfigDict(extra="ignore")


class Seconds(_Lenient):
    """Time of a run by phase, in seconds."""

    data: float | None = None
    train: float | None = None
    evaluate: float | None = None
    total: float | None = None


class Event(_Lenient):
    """Something worth telling that happened during a run."""

    at: str = ""
    samples: int | None = None
    text: str = ""


class RunFacts(_Lenient):
    """Contents of ``run.json``; what is absent is None."""

    name: str | None = None
    recipe: str | None = None
    command: str | None = None
    started: str | None = None
    finished: bool | None = None
    world_size: int | None = None
    device: str | None = None
    engine: Mapping[str, JsonValue] | None = None
    host: Mapping[str, JsonValue] | None = None
    versions: Mapping[str, JsonValue] | None = None
    dataset: Mapping[str, JsonValue] | None = None
    parameters: int | None = None
    seconds: Seconds | None = None
    samples_seen: int | None = None
    samples_planned: int | None = None
    samples_per_second: float | None = None
    data_wait_share: float | None = None
    evaluation_pause_share: float | None = None
    quarantined: int | None = None
    events: tuple[Event, ...] = ()


def parse_facts(data: Mapping[str, Any]) -> tuple[RunFacts, tuple[str, ...]]:
    """Read facts, leaving out the keys whose values cannot be read.

    Returns:
        The facts, and the keys that were left out.
    """
    try:
        return RunFacts.model_validate(data), ()
    except ValidationError as error:
        bad = {str(fault["loc"][0]) for fault in error.errors()}
    kept = {key: value for key, value in data.items() if key not in bad}
    return RunFacts.model_validate(kept), tuple(sorted(bad))


def absent(facts: RunFacts) -> tuple[str, ...]:
    """Names of the facts that a run has not written (yet)."""
    names = [name for name in RunFacts.model_fields if getattr(facts, name) is None]
    if facts.seconds is not None:
        phases = Seconds.model_fields
        names += [f"seconds.{name}" for name in phases if getattr(facts.seconds, name) is None]
    return tuple(names)
