from __future__ import annotations

from pathlib import Path

import pytest

import cluster.run
from cluster.profile import Profile, load_profile
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
