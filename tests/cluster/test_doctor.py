from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from cluster.doctor import (
    Finding,
    ahead,
    dataset,
    devices,
    disk,
    examine,
    fit,
    judges,
    kept,
    memory,
    room,
    schedule,
    skew,
    trackers,
    versions,
    writable,
)
from cluster.look import (
    Data,
    Machine,
    clocks,
    look_at_data,
    look_at_machine,
)
from cluster.profile import Profile
from tests.trainers.conftest import small_recipe

GIB = 1 << 30
ON_GPUS = {"augment": "readers", "reader": {"gpus": 0.5}}
NEEDS = ("ray[data]>=2.60,<2.61", "numpy>=2.0")


def machine(**changes: object) -> Machine:
    facts: dict[str, object] = {
        "cpus": 8,
        "memory": 64 * GIB,
        "shared": 32 * GIB,
        "gpus": 0,
        "aio": True,
        "versions": {"ray": "2.60.1", "numpy": "2.3.0"},
        "needs": NEEDS,
    }
    return Machine(**{**facts, **changes})  # type: ignore[arg-type]


def profile(**changes: object) -> Profile:
    return Profile.model_validate(changes)


@pytest.mark.parametrize(
    ("installed", "level", "text"),
    [
        ({"ray": "2.60.1", "numpy": "2.3.0"}, "ok", "all 2 packages fit"),
        ({"ray": "2.61.0", "numpy": "2.3.0"}, "error", "ray is 2.61.0; pip install"),
        ({"ray": "2.60.1", "numpy": None}, "error", "numpy is missing; pip install"),
    ],
)
def test_versions_that_do_not_fit_are_named(
    installed: dict[str, str | None], level: str, text: str
) -> None:
    (finding,) = versions(machine(versions=installed))
    assert finding.level == level
    assert text in finding.text


@pytest.mark.parametrize(("workers", "level"), [(1, "ok"), (4, "ok"), (3, "error")])
def test_workers_must_divide_the_batch(workers: int, level: str) -> None:
    assert fit(small_recipe(), profile(workers=workers)).level == level


def test_parts_must_divide_a_workers_share() -> None:
    found = fit(small_recipe(), profile(workers=2, engine={"accumulate": 4}))
    assert (found.level, found.text) == ("ok", "8 samples a step on each of 2 workers, in 4 parts")
    assert fit(small_recipe(), profile(workers=2, engine={"accumulate": 3})).level == "error"


@pytest.mark.parametrize(("warmup", "levels"), [(0, []), (63, []), (64, ["warning"])])
def test_a_warm_up_longer_than_the_run(warmup: int, levels: list[str]) -> None:
    recipe = small_recipe(samples=64, optimizer={"warmup": warmup})
    assert [finding.level for finding in schedule(recipe)] == levels


@pytest.mark.parametrize(
    ("asked", "here", "level"),
    [
        ({"workers": 2}, {}, "ok"),
        ({"workers": 9}, {}, "warning"),
        ({"workers": 2, "device": "cuda"}, {"gpus": 0}, "warning"),
        ({"workers": 2, "device": "cuda"}, {"gpus": 1}, "warning"),
        ({"workers": 2, "device": "cuda"}, {"gpus": 2}, "ok"),
        ({"workers": 2, "device": "cuda", **ON_GPUS}, {"gpus": 2}, "warning"),
        ({"workers": 2, "device": "cuda", **ON_GPUS}, {"gpus": 3}, "ok"),
        ({"workers": 2, **ON_GPUS}, {"gpus": 0}, "warning"),
        ({"workers": 2, **ON_GPUS}, {"gpus": 1}, "ok"),
    ],
)
def test_devices(asked: dict[str, object], here: dict[str, object], level: str) -> None:
    assert devices(profile(**asked), machine(**here)).level == level


@pytest.mark.parametrize(
    ("device", "here", "level", "check"),
    [
        ("cpu", {}, "ok", "memory"),
        ("cpu", {"shared": GIB // 4}, "error", "shared memory"),
        ("cuda", {"shared": GIB // 4}, "warning", "shared memory"),  # a machine without a GPU
        ("cuda", {"shared": GIB // 4, "gpus": 1}, "error", "shared memory"),
        ("cpu", {"shared": None}, "ok", "memory"),
        ("cpu", {"memory": GIB // 2}, "warning", "memory"),
    ],
)
def test_memory(device: str, here: dict[str, object], level: str, check: str) -> None:
    (finding,) = memory(profile(device=device), machine(**here))
    assert (finding.level, finding.check) == (level, check)


@pytest.mark.parametrize(
    ("gpus", "here", "warned"), [(1.0, 2, True), (1.0, 3, False), (0.0, 2, False), (1.0, 0, False)]
)
def test_evaluation_jobs_find_gpus_beside_those_that_train(
    gpus: float, here: int, warned: bool
) -> None:
    given = profile(workers=2, device="cuda", evaluations={"gpus": gpus})
    data = {"kind": "synthetic", "samples": 8, "size": 16}
    judged = small_recipe(evaluations=[{"kind": "proxy", "name": "a", "data": data}])
    assert len(list(judges(judged, given, machine(gpus=here)))) == warned
    assert not list(judges(small_recipe(), given, machine(gpus=here)))


@pytest.mark.parametrize(
    ("changes", "samples", "warned"),
    [
        ({"workers": 8}, 20_000, True),  # of 64x64x3 bytes each: 236 MiB a worker
        ({"workers": 2}, 20_000, False),
        ({"workers": 4}, 20_000, True),  # with the readers' store
        ({"workers": 8, "reader": {"cache": 0}}, 20_000, False),
        ({"workers": 8, "augment": "readers"}, 20_000, False),
        ({"workers": 8, "device": "cuda"}, 20_000, False),  # on another machine than this
        ({"workers": 8}, 50_000, False),  # too many to be kept
        ({"workers": 8}, 200, False),
    ],
)
def test_samples_that_are_kept_have_room(
    changes: dict[str, object], samples: int, warned: bool
) -> None:
    recipe = small_recipe(data={"source": {"kind": "synthetic"}}, samples=10**6)
    found = list(kept(recipe, profile(**changes), machine(memory=3 * GIB), Data(samples, 1)))
    assert [finding.level for finding in found] == ["warning"] * warned
    once = recipe.model_copy(update={"samples": samples})
    assert not list(kept(once, profile(**changes), machine(memory=3 * GIB), Data(samples, 1)))


@pytest.mark.parametrize(
    ("device", "aio", "place", "levels"),
    [
        ("cpu", True, "", ["ok"]),
        ("cpu", False, "", ["error", "ok"]),
        ("cpu", True, "none", ["error"]),
        ("cuda", False, "none", ["warning", "warning"]),  # on a machine without a GPU
    ],
)
def test_an_optimizer_on_a_disk(
    tmp_path: Path, device: str, aio: bool, place: str, levels: list[str]
) -> None:
    offload = {"optimizer": "nvme", "folder": str(tmp_path / place)}
    asked = profile(device=device, engine={"zero_stage": 3, "offload": offload})
    with mock.patch("cluster.doctor.check_lockable"):  # whether this machine may
        assert [finding.level for finding in disk(asked, machine(aio=aio))] == levels
    assert list(disk(profile(), machine(aio=False))) == []


@pytest.mark.parametrize(
    ("data", "levels"),
    [
        (Data(96, 4), ["ok"]),
        (Data(96, 1), ["ok", "warning"]),
        (Data(96, 0), ["ok"]),  # made, not read
        (Data(15, 4), ["error"]),
        (Data(fault="s3://b: no credentials"), ["error"]),
    ],
)
def test_data(data: Data, levels: list[str]) -> None:
    found = list(dataset(small_recipe(), profile(), data))
    assert [finding.level for finding in found] == levels
    assert data.fault in found[0].text


@pytest.mark.parametrize(
    ("reader", "size", "warned"),
    [
        ({"tasks_ahead": 2, "memory": 1 << 20}, 64, True),  # 16 pictures of 12 KiB, ten times
        ({"tasks_ahead": 2, "memory": 2 << 20}, 64, False),
        ({"tasks_ahead": 4, "memory": 2 << 20}, 64, True),
        ({"tasks_ahead": 1, "memory": 1 << 20}, 64, False),
        ({"tasks_ahead": 2, "memory": 1 << 20}, None, False),
    ],
)
def test_memory_in_which_readers_wait_for_each_other(
    reader: dict[str, int], size: int | None, warned: bool
) -> None:
    recipe = small_recipe()
    decode = recipe.data.decode.model_copy(update={"size": size})
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"decode": decode})})
    found = list(ahead(recipe, profile(workers=1, reader=reader)))
    assert [finding.level for finding in found] == ["warning"] * warned
    assert all("room for" in finding.text for finding in found)
    for finding in found:  # what it says to set is enough
        enough = int(finding.text.split("set it to ")[1].split()[0])
        assert not list(ahead(recipe, profile(workers=1, reader={**reader, "memory": enough})))


def test_a_place_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    assert [found.level for found in writable(str(tmp_path))] == ["ok", "ok"]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    assert [found.level for found in writable(str(tmp_path / "file" / "run"))] == ["error"]


@pytest.mark.parametrize(
    ("off", "level"), [(-1.0, "ok"), (0.0, "ok"), (600.0, "error"), (-9.0, "warning")]
)
def test_the_clock_of_what_keeps_a_run_is_compared_as_well(
    tmp_path: Path, off: float, level: str
) -> None:
    def here() -> float:
        return time.time() + off

    _, clock = writable(str(tmp_path), here)
    assert (clock.level, clock.check) == (level, "clocks")
    if level != "ok":
        assert f"out's clock is {abs(off):.0f} s off" in clock.text


def test_what_keeps_no_times_has_no_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.shards.storage.changed", lambda url: None)
    assert [found.check for found in writable(str(tmp_path))] == ["out"]


@pytest.mark.parametrize(
    ("off", "level"), [(0.0, "ok"), (4.0, "ok"), (-9.0, "warning"), (9.0, "warning"), (90, "error")]
)
def test_clocks_are_compared_up_to_the_time_that_asking_takes(off: float, level: str) -> None:
    now = [1000.0]

    def here() -> float:
        return now[0]

    def nodes() -> Iterator[float]:
        for _ in range(3):
            now[0] += 2.0  # the answer is 2 s on its way
            yield now[0] - 1.0 + off

    assert skew(nodes(), here).level == level


@pytest.mark.ray
def test_a_cluster_on_this_machine_has_this_clock(ray_cluster: object) -> None:
    assert skew(clocks(), time.time) == Finding(
        "ok", "clocks", "the cluster's clock agrees with this machine's"
    )


@pytest.mark.parametrize(
    ("asked", "nodes", "level", "text"),
    [
        ({"workers": 2}, [{"CPU": 1.0}, {"CPU": 1.5}], "ok", "has room for 2 workers of 1 CPU"),
        ({"workers": 2}, [{"CPU": 1.0}] * 2, "warning", "workers and their readers take 2.25 CPUs"),
        ({"workers": 2, "reader": {"cpus": 0.0}}, [{"CPU": 1.0}] * 2, "ok", "has room"),
        (
            {"workers": 2},
            [{"CPU": 1.5}],
            "warning",
            "no room for 2 workers of 1 CPU on its 1 ",
        ),
        ({"workers": 4, "min_workers": 1}, [{"CPU": 2.0}], "ok", "room for 1 to 4 workers"),
        ({"workers": 4, "min_workers": 1}, [{"CPU": 1.25}], "warning", "no room for 1 to 4"),
        ({"device": "cuda"}, [{"CPU": 8.0, "GPU": 1.0}], "ok", "1 workers of 1 CPU, 1 GPU"),
        ({"device": "cuda", **ON_GPUS}, [{"CPU": 8.0, "GPU": 1.0}], "warning", "take 1.5 GPUs, 1"),
        ({"device": "cuda", **ON_GPUS}, [{"CPU": 8.0, "GPU": 2.0}], "ok", "has room"),
    ],
)
def test_room_on_a_cluster(
    asked: dict[str, object], nodes: list[dict[str, float]], level: str, text: str
) -> None:
    found = room(small_recipe(), profile(**asked), nodes)
    assert (found.level, found.check) == (level, "cluster")
    assert text in found.text


def test_a_run_elsewhere_asks_nothing_of_this_machine() -> None:
    poor = machine(cpus=1, shared=GIB // 4, memory=GIB // 4)
    offload = {"optimizer": "nvme", "folder": "/none"}
    asked = profile(workers=2, engine={"zero_stage": 3, "offload": offload})
    data = look_at_data(small_recipe())
    found = {finding.check for finding in examine(small_recipe(), asked, poor, data, here=False)}
    assert found.isdisjoint({"devices", "memory", "shared memory", "disk"})
    assert "batch" in found


def test_this_machine_can_run_the_tests() -> None:
    found = list(
        examine(small_recipe(), profile(), look_at_machine(), look_at_data(small_recipe()))
    )
    assert {"versions", "batch", "devices", "data"} <= {finding.check for finding in found}
    assert next(f for f in found if f.check == "versions").level == "ok"


def test_a_tracker_that_cannot_write_beside_the_run_is_found() -> None:
    chosen = profile(trackers=[{"kind": "jsonl"}, {"kind": "mlflow"}])
    bad, good = trackers(chosen, "memory://run")
    assert (bad.level, good.level) == ("error", "ok")
    assert bad.check == "trackers"
    assert "set its uri" in bad.text
    assert good.text == "metrics go to jsonl"
    elsewhere, _ = trackers(chosen, "memory://run", here=False)  # whose packages are others
    assert elsewhere.level == "warning"
    assert [found.text for found in trackers(chosen, "run")] == ["metrics go to jsonl, mlflow"]
