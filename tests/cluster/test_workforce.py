from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.util import placement_group_table

from cluster import workforce
from cluster.profile import Profile
from cluster.session import Session
from cluster.workforce import (
    Need,
    Node,
    check_room,
    choose,
    demand,
    fitting,
    grows,
    wait_for_workers,
)
from pipelines.core import ConfigError, UserError, validate
from pipelines.reader_config import ReaderConfig
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
        (replace(need(worker=GPU), drawing=0.5), [{"CPU": 64.0, "GPU": 4.0}], 2),
        (replace(need(worker=GPU), drawing=0.5), [{"CPU": 64.0, "GPU": 1.0}], 0),
        (replace(need(), drawing=0.25), [{"CPU": 64.0}, {"GPU": 1.0}], 4),
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
        (replace(need(worker=GPU), drawing=0.5), 2, [{"CPU": 9.0, "GPU": 4.0}], [GPU], False),
        # Its second reader has a GPU of the other node, and gives it back.
        (
            replace(need(most=2, worker=GPU), drawing=1.0, drawn=2.0),
            1,
            [{"CPU": 4.0, "GPU": 2.0}] * 2,
            [{"CPU": 2.0, "GPU": 0.0}, {"CPU": 4.0, "GPU": 1.0}],
            True,
        ),
        (
            replace(need(worker=GPU), drawing=0.5, drawn=0.5),
            2,
            [{"CPU": 9.0, "GPU": 6.0}],
            [{"CPU": 6.0, "GPU": 3.0}],
            True,
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


class Room:
    """A cluster without room until a reservation is made there, and given back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[list[Node]] = []
        self.kept = 0
        monkeypatch.setattr(workforce, "_FREE", 0.0)
        monkeypatch.setattr(workforce, "placement_group", self.reserve)
        monkeypatch.setattr(workforce, "remove_placement_group", self.give_back)

    def reserve(self, bundles: list[Node]) -> Room:
        self.asked.append(bundles)
        self.kept += 1
        return self

    def give_back(self, group: Room) -> None:
        self.kept -= 1

    def wait(self, patience: float) -> bool:
        return patience > 0

    def look(self) -> tuple[list[Node], list[Node]]:
        nodes = [{"CPU": 8.0, "GPU": 1.5}] if self.asked and not self.kept else []
        return nodes, nodes


@pytest.mark.parametrize(
    ("asked", "reserved"),
    [
        (need(), [CPU, {"CPU": 0.5}]),
        (need(least=3), [*[CPU] * 4, {"CPU": 1.0}, {"CPU": 1.0}]),  # three do not divide the batch
        (
            replace(need(worker=GPU), drawing=0.25, tasks=[{"CPU": 0.25, "GPU": 0.25}] * 4),
            [GPU, {"CPU": 0.25, "GPU": 0.25}, {"CPU": 0.25}],
        ),
    ],
)
def test_a_varying_number_that_waits_reserves_the_fewest_which_an_autoscaler_adds(
    monkeypatch: pytest.MonkeyPatch, asked: Need, reserved: list[Node]
) -> None:
    room, said = Room(monkeypatch), list[str]()
    assert wait_for_workers(asked, 20.0, said.append, room.look) >= asked.least
    assert room.asked == [reserved]
    assert room.kept == 0
    assert said == [f"waiting for room for {asked}"]


def test_a_machine_that_will_never_hold_the_workers_is_refused() -> None:
    check_room(need(2, 4), [{"CPU": 2.0}])
    with pytest.raises(UserError, match=r"of 1 CPU, 1 GPU on this machine, which has 8 CPU, 0 GPU"):
        check_room(need(4, 4, worker=GPU), [{"CPU": 8.0}])
    drawing = Need.of(Profile(device="cuda", reader=ReaderConfig(gpus=0.5)), 64)
    with pytest.raises(UserError, match="no room for 1 workers of 1 CPU, 1 GPU and their readers"):
        check_room(drawing, [{"CPU": 8.0, "GPU": 1.0}])


def test_waiting_ends_in_an_error_that_says_what_to_do() -> None:
    with pytest.raises(
        UserError, match=r"no room for 2 to 4 workers of 1 CPU .* lower workers or min"
    ):
        wait_for_workers(need(2), 0.0, print, lambda: ([], []))


def test_what_a_profile_asks_for() -> None:
    fixed = Need.of(Profile(workers=2), 64)
    assert (fixed.least, fixed.most) == (2, 2)
    elastic = Need.of(Profile(workers=4, min_workers=1, device="cuda"), 64)
    assert (elastic.least, elastic.most) == (1, 4)
    assert elastic.worker == {"CPU": 1.0, "GPU": 1.0}
    assert elastic.reading == 0.5
    assert elastic.tasks == [{"CPU": 0.25}]  # those that wait give theirs back
    augmenting = Need.of(Profile(workers=4, reader=ReaderConfig(gpus=0.5)), 64)
    assert augmenting.tasks == [{"CPU": 0.25, "GPU": 0.5}] * 4
    assert augmenting.each == {"CPU": 1.5, "GPU": 0.5}
    assert augmenting.drawn == 1.0  # two tasks ahead
    assert Need.of(Profile(reader=ReaderConfig(cpus=0)), 64).tasks == []
    parts = EngineConfig(accumulate=8)
    cut = Need.of(Profile(workers=4, min_workers=1, engine=parts), 48)
    assert fitting(cut, [{"CPU": 6.0}]) == 3  # four would have 12 samples each
    with pytest.raises(ConfigError, match="min_workers: 3 is more than workers, 2"):
        validate(Profile, {"workers": 2, "min_workers": 3}, "profile")
