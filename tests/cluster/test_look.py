from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cluster import look
from cluster.doctor import dataset, evaluations
from cluster.look import look_at_data, look_at_evaluations
from cluster.profile import Profile
from pipelines.shards import index
from pipelines.shards.index import open_index
from tests.trainers.conftest import small_recipe


def test_a_fault_of_the_data_is_a_finding_and_no_error(tmp_path: Path) -> None:
    source = {"kind": "webdataset", "url": f"{tmp_path}/none-*.tar"}
    data = {"source": source, "decode": {"size": 16, "text": {"caption": "txt"}}}
    assert "no file matches" in look_at_data(small_recipe(data=data)).fault
    assert look_at_data(small_recipe()).samples == 96


def test_data_of_evaluations_that_are_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "here-0.tar").write_bytes(b"")
    here, none = (f"{tmp_path}/{name}-*.tar" for name in ("here", "none"))
    made = {"kind": "synthetic", "samples": 8, "size": 16}
    recipe = small_recipe(
        evaluations=[
            {"kind": "knn", "name": "a", "data": here, "reference": none},
            {"kind": "proxy", "name": "b", "data": none},
            {"kind": "proxy", "name": "c", "data": made},
        ]
    )
    faults = look_at_evaluations(recipe)
    assert [fault.split(":")[0] for fault in faults] == ["knn a", "proxy b"]
    assert all("no file matches" in fault for fault in faults)
    assert [found.level for found in evaluations(recipe, faults)] == ["error"] * 2
    assert [found.level for found in evaluations(recipe, [])] == ["ok"]
    assert list(evaluations(small_recipe(), [])) == []


@pytest.mark.parametrize("name", ["none.tar", "none-{0..1}.tar"])
def test_names_without_a_star_are_looked_for_as_well(tmp_path: Path, name: str) -> None:
    recipe = small_recipe(
        evaluations=[{"kind": "proxy", "name": "a", "data": f"{tmp_path}/{name}"}]
    )
    (fault,) = look_at_evaluations(recipe)
    assert "does not exist" in fault


def test_data_that_are_learned_from_as_well_are_a_fault(tmp_path: Path) -> None:
    for name in ("a-0.tar", "a-1.tar", "b-0.tar"):
        (tmp_path / name).write_bytes(b"")
    one, every = f"{tmp_path}/a-1.tar", f"{tmp_path}/a-*.tar"
    recipe = small_recipe(
        evaluations=[
            {"kind": "knn", "name": "same", "data": one, "reference": every},
            {"kind": "knn", "name": "other", "data": f"{tmp_path}/b-*.tar", "reference": every},
        ]
    )
    (fault,) = look_at_evaluations(recipe)
    assert fault.startswith(f"knn same: {one} is in both {one} and {every}: ")


def test_a_large_data_set_is_not_read_from_end_to_end(
    tmp_path: Path, make_tar: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        make_tar(tmp_path / f"a-{number}.tar", {f"{number}": {"png": b"", "txt": b"a"}})
    url = f"{tmp_path}/a-*.tar"
    recipe = small_recipe(
        data={"source": {"kind": "webdataset", "url": url}, "decode": {"size": 16}},
        evaluations=[{"kind": "proxy", "name": "p", "data": {"kind": "webdataset", "url": url}}],
    )
    monkeypatch.setattr(look, "_BRIEFLY", -1.0)
    data = look_at_data(recipe)
    (found,) = dataset(recipe, Profile(), data)
    assert (found.level, data.fault) == ("warning", "")
    assert found.text.startswith("3 shards are not indexed yet; ")
    assert look_at_evaluations(recipe) == []  # they are there
    open_index(url)
    assert look_at_data(recipe).shards == 3


def test_an_index_of_read_only_data_is_found_in_the_run(
    tmp_path: Path, make_tar: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tar(tmp_path / "data" / "a.tar", {"a": {"png": b"", "txt": b"a"}})
    url, run = f"{tmp_path}/data/a.tar", str(tmp_path / "run")
    recipe = small_recipe(
        data={"source": {"kind": "webdataset", "url": url}, "decode": {"size": 16}}
    )
    monkeypatch.setattr(index, "_writable", lambda folder: folder.startswith(run))
    monkeypatch.setattr(look, "_BRIEFLY", -1.0)
    assert look_at_data(recipe, run).unindexed
    open_index(url, run)
    assert look_at_data(recipe, run).shards == 1
