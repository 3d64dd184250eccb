"""``eagleray doctor``; each of its checks is in tests/cluster/test_doctor.py."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster.cli.doctor import command
from cluster.look import Data
from cluster.profile import Profile, load_profile
from pipelines.core import UserError
from tests.cluster.test_doctor import machine

RECIPE = "clip-emoji"
ANYWHERE = ["versions", "batch", "data", "evaluations", "trackers"]
HERE = ["versions", "batch", "devices", "memory", "data", "evaluations", "trackers"]
Connected = list[tuple[Profile, str]]


@pytest.fixture(autouse=True)
def connected(monkeypatch: pytest.MonkeyPatch) -> Connected:
    """A machine and a cluster that have all; with which profile, and where, it was asked."""
    asked: Connected = []

    @contextmanager
    def connect(profile: Profile, address: str) -> Iterator[None]:
        asked.append((profile, address))
        print("what Ray tells")
        yield

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("cluster.look.look_at_machine", machine)
    monkeypatch.setattr("cluster.look.clocks", lambda: iter([time.time()]))
    monkeypatch.setattr("cluster.session.connect", connect)
    monkeypatch.setattr("cluster.workforce.cluster_nodes", lambda: ([{"CPU": 8.0}], [{}]))
    return asked


def findings(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_what_will_go_well_is_a_table(
    capsys: pytest.CaptureFixture[str], connected: Connected
) -> None:
    command(RECIPE)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines] == [["ok", check] for check in HERE]
    assert " ".join(lines[1][2:]) == "64 samples a step on each of 2 workers"
    assert not connected


def test_findings_for_machines(
    capsys: pytest.CaptureFixture[str], connected: Connected, tmp_path: Path
) -> None:
    command(RECIPE, str(tmp_path), workers=4, overrides=["global_batch=64"], as_json=True)
    found = findings(capsys)
    assert [(finding["level"], finding["check"]) for finding in found] == [
        ("ok", check) for check in [*HERE, "out", "clocks"]
    ]
    assert found[1]["text"] == "16 samples a step on each of 4 workers"
    assert all(set(finding) == {"level", "check", "text"} for finding in found)
    assert not connected


@pytest.mark.parametrize("as_json", [False, True])
def test_a_check_that_fails_is_told_with_all_others_and_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    fault = "s3://me:hunter22@bucket: [access] refused"
    monkeypatch.setattr("cluster.look.look_at_data", lambda *_: Data(fault=fault))
    message = r"^2 of 7 checks failed; first: 3 workers do not divide"
    with pytest.raises(UserError, match=message):
        command(RECIPE, workers=3, as_json=as_json)
    out = capsys.readouterr().out
    levels = [f["level"] for f in json.loads(out)] if as_json else out.split()
    assert levels.count("error") == 2
    assert "[access] refused" in out
    assert "hunter22" not in out


def test_a_warning_alone_does_not_fail(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.look.look_at_data", lambda *_: Data(960, 1))
    command(RECIPE, as_json=True)
    levels = {finding["check"]: finding["level"] for finding in findings(capsys)}
    assert levels["shards"] == "warning"


def test_missing_data_of_evaluations_and_a_place_that_cannot_be_written_fail(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("cluster.look.look_at_evaluations", lambda _: ["knn a: none"])
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^2 of 8 checks failed; first: knn a: none$"):
        command(RECIPE, str(tmp_path / "file" / "run"), as_json=True)
    failed = {f["check"] for f in findings(capsys) if f["level"] == "error"}
    assert failed == {"evaluations", "out"}


@pytest.mark.parametrize(
    ("option", "variable", "used"),
    [("a:1", "", "a:1"), (None, "b:2", "b:2"), ("a:1", "b:2", "a:1")],
)
def test_a_cluster_is_looked_at_in_place_of_this_machine(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    connected: Connected,
    option: str | None,
    variable: str,
    used: str,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", variable)
    command(RECIPE, workers=4, cluster=option, as_json=True)
    assert connected == [(load_profile("laptop", ("workers=4",)), used)]
    found = findings(capsys)
    assert [(f["level"], f["check"]) for f in found] == [
        ("ok", check) for check in [*ANYWHERE, "cluster", "clocks"]
    ]


def test_a_cluster_without_room_and_with_another_clock_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.look.clocks", lambda: iter([time.time() + 600]))
    monkeypatch.setattr("cluster.workforce.cluster_nodes", lambda: ([{"CPU": 1.0}], [{}]))
    with pytest.raises(UserError, match=r"first: the cluster's clock is \d+ s off"):
        command(RECIPE, cluster="a:1", as_json=True)
    levels = {finding["check"]: finding["level"] for finding in findings(capsys)}
    assert (levels["cluster"], levels["clocks"]) == ("warning", "error")
