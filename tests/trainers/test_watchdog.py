from __future__ import annotations

import subprocess
import sys
import time

import pytest

from trainers.watchdog import watched

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


def test_tables_come_as_they_are() -> None:
    assert list(watched(iter([1, 2, 3]), 60.0)) == [1, 2, 3]


def test_a_step_that_hangs_ends_its_process_and_tells_where_it_was() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGS], capture_output=True, text=True, check=False, timeout=50
    )
    assert done.returncode != 0
    assert done.stdout.split() == ["0", "1"]
    assert "the_step_that_hangs" in done.stderr


@pytest.mark.parametrize("left", [False, True])
def test_waiting_for_a_table_and_what_comes_after_the_last_do_not_count(left: bool) -> None:
    def slow() -> object:
        for number in range(2):
            time.sleep(0.4)
            yield number

    tables = watched(slow(), 0.2)  # type: ignore[arg-type]
    next(tables)
    if left:
        tables.close()  # type: ignore[attr-defined]
    else:
        assert list(tables) == [1]
    time.sleep(0.4)  # this process would be gone
