from __future__ import annotations

import pytest
from ray.data._internal import stats
from ray.data._internal.stats import _StatsManager

from pipelines import unseen
from pipelines.unseen import COLLECTED, leave_out_statistics

NAMES = (*unseen._TOLD, "gen_dataset_id_from_stats_actor")


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setattr(_StatsManager, name, getattr(_StatsManager, name))

    def asked() -> None:
        raise AssertionError("the actor was asked for")

    monkeypatch.setattr(stats, "get_or_create_stats_actor", asked)


def test_without_an_audience_no_actor_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COLLECTED, "0")
    leave_out_statistics()
    first, second = (_StatsManager.gen_dataset_id_from_stats_actor() for _ in range(2))
    assert first != second
    _StatsManager.register_dataset_to_stats_actor("tag", [], None, None)
    _StatsManager.update_execution_metrics("tag", [], [], {})
    _StatsManager.update_iteration_metrics(None, "tag", split_index="0")


@pytest.mark.parametrize("value", [None, "1"])
def test_with_one_the_library_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv(COLLECTED, raising=False)
    if value is not None:
        monkeypatch.setenv(COLLECTED, value)
    before = [getattr(_StatsManager, name) for name in NAMES]
    leave_out_statistics()
    assert [getattr(_StatsManager, name) for name in NAMES] == before
