from __future__ import annotations

import threading

import pytest

from trainers.behind import Behind


def test_an_action_runs_beside_and_the_next_one_waits_for_it() -> None:
    behind, go, seen = Behind(), threading.Event(), []

    def slow() -> None:
        assert go.wait(10)
        seen.append(1)

    behind.start(slow)
    behind.check()
    assert seen == []
    go.set()
    behind.start(lambda: seen.append(2))
    behind.join()
    assert seen == [1, 2]


@pytest.mark.parametrize("asks", ["join", "check", "start"])
def test_a_failure_is_raised_once_where_it_is_met(asks: str) -> None:
    behind = Behind()

    def fail() -> None:
        raise OSError("the store is down")

    behind.start(fail)
    assert behind._thread is not None
    behind._thread.join()
    with pytest.raises(OSError, match="down"):
        behind.start(lambda: None) if asks == "start" else getattr(behind, asks)()
    behind.join()
