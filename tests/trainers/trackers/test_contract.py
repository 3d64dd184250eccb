"""One contract over every tracker found in the folder."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pipelines.core import ConfigError, validate
from trainers.core.tracker import Tracker
from trainers.trackers import TRACKERS
from trainers.trackers.jsonl import Jsonl

every = pytest.mark.parametrize("kind", TRACKERS.names())


def build(kind: str, run: Path, samples: int = 0) -> Tracker:
    made: Tracker = TRACKERS.build(TRACKERS.parse({"kind": kind}), run=str(run), samples=samples)
    return made


@every
def test_config_makes_the_round_trip_through_json(kind: str) -> None:
    config = TRACKERS.parse({"kind": kind})
    assert TRACKERS.parse(json.loads(json.dumps(TRACKERS.dump(config)))) == config


@every
def test_unknown_key_is_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match="unknown key"):
        validate(TRACKERS.get(kind).config, {"no_such_key": 1}, "profile")


@every
def test_a_run_in_a_local_folder_passes_the_check_which_leaves_nothing(
    kind: str, tmp_path: Path
) -> None:
    TRACKERS.parse({"kind": kind}).check(str(tmp_path / "run"))  # type: ignore[attr-defined]
    assert not list(tmp_path.iterdir())


@every
def test_lines_are_taken_until_the_end_and_closing_twice_is_harmless(
    kind: str, tmp_path: Path
) -> None:
    made = build(kind, tmp_path)
    made.flush()
    for samples in (8, 16):
        made.log({"loss": 1.0, "top-1": 0.5}, samples=samples)
        made.flush()
    made.close()
    before = {path: path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()}
    made.close()
    after = {path: path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before


@every
def test_a_resumed_run_drops_later_lines_or_says_why_not(kind: str) -> None:
    text = " ".join((TRACKERS.get(kind).cls.__doc__ or "").split())
    assert ("drops" in text) != bool(re.search("cannot (be taken|take) back", text))


def test_several_trackers_write_side_by_side(tmp_path: Path) -> None:
    trackers = [build(kind, tmp_path) for kind in TRACKERS.names()]
    for made in trackers:
        made.log({"loss": 1.0}, samples=8)
        made.close()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"samples": 8, "loss": 1.0}\n'
    assert any(isinstance(made, Jsonl) for made in trackers)
