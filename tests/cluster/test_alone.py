from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.alone import _at_work, _born, alone
from pipelines.core import UserError
from pipelines.shards import storage


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "alive.json"


def quiet(line: str) -> None:
    pass


def test_a_second_run_in_a_folder_is_refused(tmp_path: Path, mark: Path) -> None:
    with alone(str(tmp_path), quiet):
        message = r"another run is at work there, process \d+ on .*; wait for it or end it, or"
        with pytest.raises(UserError, match=message), alone(str(tmp_path), quiet):
            raise AssertionError("not refused")
        assert mark.exists()
    assert not mark.exists()
    with alone(str(tmp_path), quiet):
        pass


def test_a_run_that_was_killed_is_in_nobodys_way(tmp_path: Path, mark: Path) -> None:
    with alone(str(tmp_path), quiet):
        left = json.loads(mark.read_text())
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    left |= {"pid": other.pid, "born": _born(other.pid)}
    mark.write_text(json.dumps(left))
    with pytest.raises(UserError), alone(str(tmp_path), quiet):
        pass
    other.communicate(b"\n")
    with alone(str(tmp_path), quiet):
        pass


def test_another_process_of_the_same_number_is_not_that_run(tmp_path: Path, mark: Path) -> None:
    with alone(str(tmp_path), quiet):
        left = json.loads(mark.read_text())
    mark.write_text(json.dumps(left | {"born": "1"}))
    with alone(str(tmp_path), quiet):
        pass


def test_a_process_that_is_dead_and_not_cleared_away_is_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    deadline = time.monotonic() + 20
    while _born(child.pid) is not None:  # nobody waits for it: a zombie
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert Path(f"/proc/{child.pid}").exists()
    child.wait()


def test_a_mark_of_another_container_of_this_machine_is_looked_at(
    tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with alone(str(tmp_path), quiet):
        left = json.loads(mark.read_text())
    mark.write_text(json.dumps(left | {"where": "its processes", "host": "here"}))
    told: list[str] = []
    assert not _at_work(json.loads(mark.read_text()), str(mark), told.append, look=1.0)
    assert told == ["here left a mark in the run's folder: looking whether it is at work"]


def test_a_run_that_lost_its_folder_is_interrupted(tmp_path: Path, mark: Path) -> None:
    told: list[str] = []

    def lose() -> None:
        with alone(str(tmp_path), told.append, beat=0.2):
            mark.write_text('{"id": "another", "host": "elsewhere"}')
            for _ in range(100):
                time.sleep(0.1)

    with pytest.raises(KeyboardInterrupt):
        lose()
    assert told == ["elsewhere began a run in this folder: this one ends"]
    assert json.loads(mark.read_text())["id"] == "another"


@pytest.fixture
def beating(mark: Path) -> Iterator[None]:
    ended = threading.Event()

    def beat() -> None:
        number = 0
        while not ended.wait(0.3):
            number += 1
            storage.write_text(str(mark), json.dumps({"host": "elsewhere", "beat": number}))

    thread = threading.Thread(target=beat)
    thread.start()
    yield
    ended.set()
    thread.join()


def test_a_run_on_another_machine_is_known_by_its_beat(mark: Path, beating: None) -> None:
    told: list[str] = []
    found = {"host": "elsewhere", "beat": 0}
    assert _at_work(found, str(mark), told.append, look=20.0)
    assert told == ["elsewhere left a mark in the run's folder: looking whether it is at work"]


def test_a_mark_of_another_machine_that_stays_as_it_is_counts_for_nothing(mark: Path) -> None:
    found = {"host": "elsewhere", "beat": 3}
    mark.write_text(json.dumps(found))
    assert not _at_work(found, str(mark), quiet, look=2.0)


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"'])
def test_a_damaged_mark_is_in_nobodys_way(tmp_path: Path, mark: Path, text: str) -> None:
    mark.write_text(text)
    with alone(str(tmp_path), quiet):
        pass


def test_the_mark_is_kept_fresh(tmp_path: Path, mark: Path) -> None:
    with alone(str(tmp_path), quiet, beat=0.02):
        deadline = time.monotonic() + 10
        while json.loads(mark.read_text())["beat"] < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
