from __future__ import annotations

from tests.trainers.two_workers import assert_two_equal_one


def test_two_workers_are_one() -> None:
    assert_two_equal_one("clip_contrast")
