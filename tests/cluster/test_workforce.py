from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.util import placement_group_table

from cluster import workforce
from cluster.profile import Profile
from cluster.session import Session
from cluster.workforce import (
    LOOK,
    Growth,
    Need,
    Node,
    check_room,
    choose,
    demand,
    fitting,
    grows,
    next_look,
    wait_for_workers,
)
from pipelines.core import ConfigError, OutageError, UserError, validate
from pipelines.reader_config import ReaderConfig
from pipelines.shards import storage
from trainers.core.engine import EngineConfig

CPU = {"CPU": 1.0}
GPU = {"CPU": 1.0, "GPU": 1.0}
BOTH, NO = {"CPU": 3.0, "GPU": 2.0}, {"CPU": 0.0, "GPU": 0.0}


def need(least: int = 1, most: int = 4, batch: int = 64, worker: Node = CPU) -> Need:
    return Need(batch, least, most, worker, reading=0.5)


@pytest.mark.parametrize(
    ("asked", "nodes", "expected"),
    [
        (need(), [{"CPU": 8.0}], 4),
        (need(), [{"CPU": 6.0}], 4),
        (need(), [{"CPU": 3.0}], 2),
        (need(), [{"CPU": 1.0}], 0),  # none is left for its readers
        (need(), [], 0),
        (need(), [{}], 0),
        (need(), [{"CPU": 0.9}, {"CPU": 0.9}], 0),  # no node holds one
        (need(), [{"CPU": 1.5}, {"CPU": 1.5}], 2),
        (need(batch=64), [{"CPU": 4.6}], 2),  # three would not divide the batch
        (need(batch=63), [{"CPU": 4.6}], 3),
        (need(least=2), [{"CPU": 1.5}], 0),
        (need(worker=GPU), [{"CPU": 32.0}], 0),
        (need(worker=GPU), [{"CPU": 32.0, "GPU": 2.0}, {"CPU": 1.0, "GPU": 8.0}], 2),
        (need(worker=GPU), [{"CPU": 32.0, "GPU": 2.0}, {"CPU": 2.0, "GPU": 8.0}], 4),
    ],
)
def test_as_many_as_nodes_hold_and_the_batch_allows(
    asked: Need, nodes: Sequence[Node], expected: int
) -> None:
    assert fitting(asked, nodes) == expected


@given(
    st.lists(st.fixed_dictionaries({"CPU": st.floats(0, 20)}), max_size=5),
    st.integers(1, 8),
    st.integers(0, 8),
    st.integers(1, 96),
)
def test_what_fits_is_within_bounds_and_more_nodes_never_hold_fewer(
    nodes: list[Node], least: int, more: int, batch: int
) -> None:
    asked = need(least, least + more, batch)
    found = fitting(asked, nodes)
    assert found == 0 or (least <= found <= least + more and batch % found == 0)
    assert found * 1.5 <= sum(node["CPU"] for node in nodes) + 1e-5
    assert fitting(asked, [*nodes, {"CPU": 4.0}]) >= found


@pytest.mark.parametrize(
    ("whole", "free", "waited", "expected"),
    [
        ([{"CPU": 6.0}], [{"CPU": 6.0}], 0, 4),
        ([{"CPU": 6.0}], [{"CPU": 3.0}], 0, None),  # the last attempt is being cleared away
        ([{"CPU": 6.0}], [{"CPU": 3.0}], 31, 2),  # somebody else keeps it
        ([{"CPU": 3.0}], [{"CPU": 3.0}], 0, 2),
        ([{"CPU": 6.0}], [{"CPU": 0.0}], 31, None),
        ([], [], 31, None),
    ],
)
def test_an_attempt_starts_with_what_is_free_once_that_is_all_there_is(
    whole: Sequence[Node], free: Sequence[Node], waited: float, expected: int | None
) -> None:
    assert choose(need(), whole, free, waited) == expected


@pytest.mark.parametrize(
    ("asked", "workers", "whole", "free", "expected"),
    [
        (need(), 1, [{"CPU": 1.5}] * 2, [{"CPU": 0.0}, {"CPU": 1.5}], True),
        (need(), 2, [{"CPU": 1.5}] * 2, [{"CPU": 0.0}, {"CPU": 0.0}], False),
        (need(), 1, [{"CPU": 1.5}] * 2, [{"CPU": 0.0}, {"CPU": 0.5}], False),  # others use it
        (need(), 2, [{"CPU": 4.5}], [{"CPU": 1.5}], False),  # three would not divide the batch
        (need(), 2, [{"CPU": 5.0}], [{"CPU": 3.0}], False),  # free, for their readers wait
        (need(), 2, [{"CPU": 6.0}], [{"CPU": 4.0}], True),
        (need(worker={"CPU": 4.0}), 1, [{"CPU": 4.5}] * 2, [{"CPU": 2.5}] * 2, False),  # on no one
        (
            need(worker=GPU),
            2,
            [BOTH, {"CPU": 8.0, "GPU": 2.0}],
            [NO, {"CPU": 8.0, "GPU": 2.0}],
            True,
        ),
        (
            need(worker=GPU),
            2,
            [BOTH, {"CPU": 8.0, "GPU": 0.0}],
            [NO, {"CPU": 8.0, "GPU": 0.0}],
            False,
        ),
    ],
)
def test_a_run_grows_only_into_what_is_free(
    asked: Need, workers: int, whole: Sequence[Node], free: Sequence[Node], expected: bool
) -> None:
    assert grows(asked, workers, whole, free) is expected


@pytest.mark.ray
def test_a_fixed_number_waits_for_room_too(ray_cluster: Session) -> None:
    told: list[str] = []
    before = set(placement_group_table())
    small, large = need(2, 2, worker={"CPU": 0.01}), need(2, 2, worker={"CPU": 1000.0})
    assert wait_for_workers(small, 20.0, told.append) == 2
    assert told == []
    assert reserved(before) == [("REMOVED", 2, 0.01)]
    before = set(placement_group_table())
    with pytest.raises(UserError, match=r"no room for 2 workers of 1000 CPU in 0.5 s; add nodes"):
        wait_for_workers(large, 0.5, told.append)
    assert told == ["waiting for room for 2 workers of 1000 CPU"]
    assert reserved(before) == [("REMOVED", 2, 1000.0)]


@pytest.mark.ray
def test_workers_that_would_leave_no_place_to_read_wait(ray_cluster: Session) -> None:
    cpus = sum(node.get("CPU", 0.0) for node in workforce.cluster_nodes()[0])
    half = need(2, 2, worker={"CPU": cpus / 2})
    reading = replace(half, tasks=[{"CPU": 0.25}])
    assert wait_for_workers(half, 20.0, print) == 2
    with pytest.raises(UserError, match=r"no room for 2 workers of .* CPU and their readers in"):
        wait_for_workers(reading, 0.5, print)


def reserved(before: set[str]) -> list[tuple[str, int, float]]:
    """State, bundles and CPUs of each of the placement groups made since."""
    made = {name: group for name, group in placement_group_table().items() if name not in before}
    return [(g["state"], len(g["bundles"]), g["bundles"][0]["CPU"]) for g in made.values()]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (need(1, 3, worker=GPU), [[GPU] * 3, []]),
        (need(3, 3, worker=GPU), []),
    ],
    ids=["varying", "fixed"],
)
@pytest.mark.parametrize("error", [None, UserError("failed")])
def test_an_autoscaler_is_asked_for_the_most_until_the_run_ends(
    monkeypatch: pytest.MonkeyPatch,
    asked: Need,
    expected: list[list[Node]],
    error: Exception | None,
) -> None:
    requests: list[list[Node]] = []
    monkeypatch.setattr(workforce, "request_resources", lambda bundles: requests.append(bundles))
    with pytest.raises(UserError, match="failed") if error else nullcontext(), demand(asked):
        assert requests == expected[:1]
        if error:
            raise error
    assert requests == expected


def test_a_machine_that_will_never_hold_the_workers_is_refused() -> None:
    check_room(need(2, 4), [{"CPU": 2.0}])
    with pytest.raises(UserError, match=r"of 1 CPU, 1 GPU on this machine, which has 8 CPU, 0 GPU"):
        check_room(need(4, 4, worker=GPU), [{"CPU": 8.0}])


def test_waiting_ends_in_an_error_that_says_what_to_do() -> None:
    with pytest.raises(
        UserError, match=r"no room for 2 to 4 workers of 1 CPU .* lower workers or min"
    ):
        wait_for_workers(need(2), 0.0, print, lambda: ([], []))


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


def test_what_a_profile_asks_for() -> None:
    fixed = Need.of(Profile(workers=2), 64)
    assert (fixed.least, fixed.most) == (2, 2)
    elastic = Need.of(Profile(workers=4, min_workers=1, device="cuda"), 64)
    assert (elastic.least, elastic.most) == (1, 4)
    assert elastic.worker == {"CPU": 1.0, "GPU": 1.0}
    assert elastic.reading == 0.5
    assert elastic.tasks == [{"CPU": 0.25}]  # those that wait give theirs back
    augmenting = Profile(workers=4, reader=ReaderConfig(gpus=0.5))
    assert Need.of(augmenting, 64).tasks == [{"CPU": 0.25, "GPU": 0.5}] * 4
    assert Need.of(Profile(reader=ReaderConfig(cpus=0)), 64).tasks == []
    parts = EngineConfig(accumulate=8)
    cut = Need.of(Profile(workers=4, min_workers=1, engine=parts), 48)
    assert fitting(cut, [{"CPU": 6.0}]) == 3  # four would have 12 samples each
    with pytest.raises(ConfigError, match="min_workers: 3 is more than workers, 2"):
        validate(Profile, {"workers": 2, "min_workers": 3}, "profile")
