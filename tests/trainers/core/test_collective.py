from __future__ import annotations

from trainers.core.collective import gather_objects, world


def test_outside_a_process_group_there_is_one_worker() -> None:
    assert world() == (0, 1)
    assert gather_objects({"a": 1}) == [{"a": 1}]
