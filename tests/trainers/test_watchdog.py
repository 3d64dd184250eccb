from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Generator, Iterator

import pytest

from trainers.watchdog import unwatched, watched

HANGS = """
import time
from trainers.watchdog import watched

def the_step_that_hangs():
    time.sleep(60)

for number in watched(iter(range(3)), 0.5):
    print(number, flush=True)
    if number == 1:
        the_step_that_hangs()
"""


WAITS = """
import sys, time
from trainers.watchdog import unwatched, watched

for number in watched(iter(range(2)), 0.5):
    with unwatched():
        time.sleep(1)
    print(number, flush=True)
    time.sleep(float(sys.argv[1]))
"""


@pytest.mark.parametrize(("after", "seen"), [("0", ["0", "1"]), ("60", ["0"])])
def test_what_has_limits_of_its_own_does_not_count_and_a_step_does_after_it(
    after: str, seen: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WAITS, after],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.stdout.split() == seen
    assert (done.returncode == 0) is (after == "0")


def test_what_is_not_watched_needs_no_leave(events: list[object]) -> None:
    with unwatched():
        pass
    assert events == []


@pytest.mark.usefixtures("events")
def test_tables_come_as_they_are() -> None:
    assert list(watched(iter([1, 2, 3]), 60.0)) == [1, 2, 3]


def test_a_step_that_hangs_ends_its_process_and_tells_where_it_was() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGS], capture_output=True, text=True, check=False, timeout=50
    )
    assert done.returncode != 0
    assert done.stdout.split() == ["0", "1"]
    assert "the_step_that_hangs" in done.stderr


STUCK = """
import re, threading
from trainers.watchdog import watched

def work():  # as a training worker does, in a thread
    for _ in watched(iter(range(2)), 0.5):
        re.match("(a|aa)+$", "a" * 60 + "b")  # for years, and no other thread gets its turn

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def test_a_step_ends_where_python_itself_is_stuck() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STUCK], capture_output=True, text=True, check=False, timeout=50
    )
    assert done.returncode == -signal.SIGALRM
    assert "in work" in done.stderr


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What is done, in turn; nothing is armed, which would end the process of all tests."""
    found: list[object] = []

    def set_timer(which: int, seconds: float) -> None:
        assert which == signal.ITIMER_REAL
        found.append(("arm", seconds) if seconds else "cancel")

    monkeypatch.setattr(signal, "setitimer", set_timer)
    monkeypatch.setattr("trainers.watchdog._tell_stacks", lambda: None)  # a limit of tests has it
    return found


@pytest.fixture
def tables(events: list[object]) -> Generator[int, None, None]:
    def read() -> Iterator[int]:
        for number in range(2):
            events.append("read")
            yield number
        events.append("ended")

    made = watched(read(), 0.2)
    assert isinstance(made, Generator)
    return made


ARMED = ("arm", 0.2)


def test_waiting_for_a_table_and_what_comes_after_the_last_do_not_count(
    events: list[object], tables: Generator[int, None, None]
) -> None:
    for number in tables:
        events.append(number)
    assert events == ["read", ARMED, 0, "cancel", "read", ARMED, 1, "cancel", "ended", "cancel"]


def test_what_comes_after_an_early_end_does_not_count(
    events: list[object], tables: Generator[int, None, None]
) -> None:
    assert next(tables) == 0
    tables.close()
    assert events == ["read", ARMED, "cancel"]


def test_what_comes_after_a_failed_read_does_not_count(events: list[object]) -> None:
    def fail() -> Iterator[int]:
        yield 0
        raise OSError("a disk is gone")

    with pytest.raises(OSError, match="a disk"):
        list(watched(fail(), 0.2))
    assert events[-1] == "cancel"
