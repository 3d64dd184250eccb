from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from cluster.growth import LOOK, Growth, next_look
from cluster.workforce import Node
from pipelines.core import OutageError
from pipelines.shards import storage
from tests.cluster.test_workforce import need


def test_growth_asks_the_workers_to_leave_and_cleans_up(tmp_path: Path) -> None:
    url = tmp_path / "leave.json"
    url.write_text("left over")
    room: tuple[list[Node], list[Node]] = ([{"CPU": 3.0}], [{"CPU": 1.5}])
    with Growth(need(), 1, str(url), print, lambda: room, every=0.01) as growth:
        assert not growth.asked
        deadline = time.monotonic() + 10
        while not url.exists() or "workers" not in url.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert growth.asked
    assert not url.exists()


@pytest.mark.parametrize(
    ("every", "asked", "before", "now", "then"),
    [
        (LOOK, False, 2, 2, LOOK),
        (80.0, False, 2, 1, 80.0),  # it lost a worker, and knows as much as before
        (LOOK, True, 2, 2, 4 * LOOK),
        (LOOK, True, 2, 1, 4 * LOOK),
        (3000.0, True, 2, 2, 3600.0),
        (3000.0, True, 2, 3, LOOK),
    ],
)
def test_a_run_that_left_in_vain_looks_less_often(
    every: float, asked: bool, before: int, now: int, then: float
) -> None:
    assert next_look(every, asked, before, now) == then


def test_a_full_run_never_looks(tmp_path: Path) -> None:
    looks: list[int] = []

    def look() -> tuple[list[Node], list[Node]]:
        looks.append(1)
        return [], []

    with Growth(need(), 4, str(tmp_path / "leave.json"), print, look, every=0.001):
        time.sleep(0.05)
    assert not looks


def test_a_look_that_fails_is_said_and_is_not_the_last(tmp_path: Path) -> None:
    said: list[str] = []
    url = tmp_path / "leave.json"
    room = [{"CPU": 8.0}], [{"CPU": 6.0}]
    answers = iter([room, ConnectionError("the head is away"), room, room])

    def look() -> tuple[list[Node], list[Node]]:
        found = next(answers, room)
        if isinstance(found, Exception):
            raise found
        return found

    with Growth(need(), 1, str(url), said.append, look, every=0.01):
        deadline = time.monotonic() + 10
        while not url.exists() or "workers" not in url.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert said == ["could not look for room for more workers: the head is away"]


def test_a_file_that_cannot_be_written_is_said_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    url = tmp_path / "leave.json"
    write, faults = storage.write_text, [OutageError("the store is away")]

    def once(place: str, text: str) -> None:
        if faults:
            raise faults.pop()
        write(place, text)

    monkeypatch.setattr(storage, "write_text", once)
    room = [{"CPU": 8.0}], [{"CPU": 6.0}]
    with Growth(need(), 1, str(url), said.append, lambda: room, every=0.01):
        deadline = time.monotonic() + 10
        while not url.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert said == ["could not ask for more workers, and will again: the store is away"]


def test_a_look_without_an_answer_holds_up_nobody_and_asks_for_nothing_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.growth._LEAVING", 0.05)
    monkeypatch.setattr("cluster.growth._SURE", 1)
    url, looking, answered = tmp_path / "leave.json", threading.Event(), threading.Event()

    def look() -> tuple[list[Node], list[Node]]:
        looking.set()
        assert answered.wait(60.0)
        return [{"CPU": 8.0}], [{"CPU": 6.0}]

    with Growth(need(), 1, str(url), print, look, every=0.01) as growth:
        assert looking.wait(20.0)
    answered.set()
    growth._thread.join(20.0)
    assert not growth._thread.is_alive()
    assert not url.exists()
    assert not growth.asked


def test_a_store_that_is_away_hides_no_other_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(url: str) -> None:
        raise OutageError("the store is away")

    growth = Growth(need(), 1, str(tmp_path / "leave.json"), print, lambda: ([], []))
    growth.__enter__()
    monkeypatch.setattr(storage, "remove", away)
    growth.__exit__(RuntimeError, RuntimeError("the group failed"), None)
    assert not growth._thread.is_alive()
