from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from pipelines.ahead import Ahead, AtOnce, one_ahead

WAIT = 20  # seconds until a test that hangs fails; none waits that long when all is well


@pytest.mark.parametrize("depth", [1, 2, 100])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_items_come_in_order(depth, count):
    assert list(Ahead(iter(range(count)), depth)) == list(range(count))


def test_items_may_be_empty_or_none():
    assert list(Ahead(iter([None, [], 0, ""]))) == [None, [], 0, ""]


def test_work_starts_before_anybody_asks():
    started = threading.Event()

    def items() -> Iterator[int]:
        started.set()
        yield 1

    ahead = Ahead(items())
    assert started.wait(WAIT)
    assert list(ahead) == [1]


def test_no_more_than_the_depth_is_made_in_advance():
    made = threading.Semaphore(0)
    count = 0

    def items() -> Iterator[int]:
        nonlocal count
        for number in range(100):
            count += 1
            made.release()
            yield number

    ahead = iter(Ahead(items(), depth=2))
    for _ in range(3):  # two are held, and one waits for a place
        assert made.acquire(timeout=WAIT)
    assert not made.acquire(timeout=0.05)
    assert count == 3
    assert next(ahead) == 0
    assert made.acquire(timeout=WAIT)
    assert list(ahead) == list(range(1, 100))


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt(), SystemExit(3)])
def test_an_error_comes_after_the_items_before_it(error):
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise error

    ahead = iter(Ahead(items()))
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(type(error)) as caught:
        next(ahead)
    assert caught.value is error


def test_work_goes_on_while_an_item_is_in_use():
    second = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        second.set()
        yield 2

    ahead = iter(Ahead(items(), depth=1))
    assert next(ahead) == 1
    assert second.wait(WAIT)


def test_an_item_that_does_not_come_is_an_error_in_the_end():
    hold = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        hold.wait(WAIT)

    ahead = iter(Ahead(items(), patience=0.1))
    assert next(ahead) == 1
    with pytest.raises(TimeoutError, match=r"nothing came for 0 s"):
        next(ahead)
    hold.set()


def test_a_consumer_that_leaves_ends_the_work():
    over = threading.Event()

    def items() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            over.set()

    ahead = iter(Ahead(items()))
    next(ahead)
    ahead.close()
    assert over.wait(WAIT)


class TestOneAhead:
    @pytest.mark.parametrize("count", [0, 1, 2, 9])
    def test_items_come_in_order(self, count: int) -> None:
        assert list(one_ahead(iter(range(count)))) == list(range(count))

    def test_the_next_item_is_begun_before_one_is_handed_over(self) -> None:
        begun: list[int] = []

        def items() -> Iterator[int]:
            for number in range(3):
                begun.append(number)
                yield number

        seen = [(item, len(begun)) for item in one_ahead(items())]
        assert seen == [(0, 2), (1, 3), (2, 3)]

    def test_an_error_waits_for_the_item_before_it(self) -> None:
        def items() -> Iterator[int]:
            yield 1
            raise OSError("gone")

        ahead = one_ahead(items())
        assert next(ahead) == 1
        with pytest.raises(OSError, match="gone"):
            next(ahead)


def test_what_is_done_at_once_is_done_in_the_callers_thread():
    done = AtOnce().submit(threading.get_ident)
    assert done.done()
    assert done.result() == threading.get_ident()


def test_what_is_raised_at_once_is_told_with_the_result():
    done = AtOnce().submit(int, "none")
    with pytest.raises(ValueError, match="none"):
        done.result()
