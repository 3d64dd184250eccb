from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

import cluster.run
from cluster.facts import Facts
from cluster.profile import Profile, load_profile
from cluster.session import Session
from pipelines.shards import storage_faults
from trainers.recipe import load_recipe


class Reached(Exception):
    pass


@pytest.mark.parametrize(
    ("recipe_changes", "profile_changes", "dashboard"),
    [
        (["evaluations=[]"], (), False),
        ([], (), True),
        (["evaluations=[]"], ("trackers=[{kind: prometheus}]",), True),
    ],
)
def test_a_dashboard_is_started_for_evaluations_and_for_prometheus(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recipe_changes: list[str],
    profile_changes: tuple[str, ...],
    dashboard: bool,
) -> None:
    asked: list[bool] = []

    def connect(profile: Profile, address: str | None, dashboard: bool) -> None:
        asked.append(dashboard)
        raise Reached

    monkeypatch.setattr(cluster.run, "connect", connect)
    recipe = load_recipe("clip-emoji", recipe_changes)
    profile = load_profile("laptop", profile_changes)
    out = str(tmp_path / "run")
    with pytest.raises(Reached):
        cluster.run.train_run(recipe, profile, out, command="", watch=print, say=print)
    assert asked == [dashboard]


def test_a_driver_waits_out_an_outage_once_the_data_has_been_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience: dict[str, float] = {}

    def prepare(*_: object) -> Nothing:
        patience["prepare"] = storage_faults._here.get()
        return Nothing()

    def train(*_: object) -> None:
        patience["train"] = storage_faults._here.get()
        raise Reached

    monkeypatch.setattr(
        cluster.run, "connect", lambda *_, **__: nullcontext(Session("", mine=False))
    )
    monkeypatch.setattr(cluster.run, "prepare", prepare)
    monkeypatch.setattr(Facts, "prepared", lambda *_: None)
    monkeypatch.setattr(cluster.run, "train_to_the_end", train)
    recipe = load_recipe("clip-emoji", ["evaluations=[]"])
    profile = load_profile("laptop", ("reader.outage=77",))
    with pytest.raises(Reached):
        cluster.run.train_run(
            recipe, profile, str(tmp_path / "run"), command="", watch=_unwatched, say=print
        )
    assert patience == {"prepare": 0.0, "train": 77.0}
    assert storage_faults._here.get() == 0.0


class Nothing:
    reader = None


def _unwatched(run: str, planned: int) -> nullcontext[None]:
    return nullcontext()
