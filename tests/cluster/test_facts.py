from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.facts import Facts
from cluster.profile import Profile
from tests.trainers.conftest import small_recipe
from trainers.meter import Clock


def facts(run: Path) -> Facts:
    return Facts(str(run), small_recipe(), Profile(workers=2), "eagleray train x")


def read(run: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((run / "run.json").read_text())
    return found


def test_shares_are_of_training_time(tmp_path: Path) -> None:
    made = facts(tmp_path)
    made.conclude(Clock(train=100.0, wait=3.0, commit=2.0, evaluation=0.5), 160, 4, 1)
    made.seconds(data=1.0, evaluate=20.0, total=130.0)
    found = read(tmp_path)
    assert found["samples_per_second"] == 1.6
    assert found["data_wait_share"] == 0.03
    assert found["evaluation_pause_share"] == 0.005
    assert found["quarantined"] == 4
    assert found["world_size"] == 1
    assert found["finished"] is True
    assert found["seconds"] == {"data": 1.0, "train": 100.0, "evaluate": 20.0, "total": 130.0}


def test_parts_of_a_resumed_run_add_up(tmp_path: Path) -> None:
    first = facts(tmp_path)
    first.conclude(Clock(train=50.0), 80, 0, 2)
    first.seconds(data=1.0, evaluate=5.0, total=60.0)
    assert read(tmp_path)["finished"] is False
    started = read(tmp_path)["started"]
    second = facts(tmp_path)
    second.event(80, "went on")
    second.conclude(Clock(train=100.0), 160, 0, 2)  # the clock itself is carried by the commit
    second.seconds(data=1.0, evaluate=9.0, total=70.0)
    found = read(tmp_path)
    assert found["seconds"] == {"data": 2.0, "train": 100.0, "evaluate": 9.0, "total": 130.0}
    assert found["started"] == started
    assert [event["text"] for event in found["events"]] == ["went on"]  # type: ignore[index]


def test_a_part_that_was_stopped_counts_as_well(tmp_path: Path) -> None:
    facts(tmp_path).stopped(Clock(train=50.0), data=1.0, total=60.0)
    assert read(tmp_path)["seconds"] == {"data": 1.0, "train": 50.0, "evaluate": 0.0, "total": 60.0}
    second = facts(tmp_path)
    second.conclude(Clock(train=100.0), 160, 0, 2)
    second.seconds(data=1.0, evaluate=9.0, total=70.0)
    found = read(tmp_path)["seconds"]
    assert found == {"data": 2.0, "train": 100.0, "evaluate": 9.0, "total": 130.0}


def test_the_host_has_the_cores_that_a_container_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.facts.available_cores", lambda: 3)
    facts(tmp_path)
    host = read(tmp_path)["host"]
    assert isinstance(host, dict)
    assert host["cpus"] == 3


def test_what_is_noted_once_is_not_noted_by_a_later_start(tmp_path: Path) -> None:
    facts(tmp_path).once(64, "collapsed")
    again = facts(tmp_path)
    again.once(64, "collapsed")
    again.once(128, "collapsed")
    events = read(tmp_path)["events"]
    assert isinstance(events, list)
    assert [event["samples"] for event in events] == [64, 128]


def test_a_damaged_file_of_an_earlier_part_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    facts(tmp_path)
    assert read(tmp_path)["world_size"] == 2


def test_credentials_stay_out_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET_KEY", "topsecretvalue123")
    command = "eagleray train x --cluster https://me:hunter22@head:8265"
    made = Facts(str(tmp_path), small_recipe(), Profile(), command)
    for _ in range(2):
        made.once(8, "401 for https://host/x?sig=AbCdEf123 with topsecretvalue123")
    found = read(tmp_path)
    assert found["command"] == "eagleray train x --cluster https://***@head:8265"
    (event,) = found["events"]  # type: ignore[misc]
    assert event["text"] == "401 for https://host/x?sig=*** with ***"
