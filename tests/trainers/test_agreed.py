from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from pipelines.core import UserError
from trainers import agreed
from trainers.agreed import Seen, agree, agreed_commit, disagreement

AT_64, AT_32, NEW, BLIND = (
    Seen(True, 64, "ab"),
    Seen(True, 32, "cd"),
    Seen(True, 0, ""),
    Seen(False, 0, ""),
)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([NEW], True),
        ([BLIND], False),
        ([AT_64, AT_64, AT_64], True),
        ([AT_64, AT_64, AT_32], False),
        ([AT_64, Seen(True, 64, "ef")], False),  # written by another attempt
        ([AT_64, NEW], False),
        ([NEW, NEW], True),
        ([NEW, BLIND], False),
        ([BLIND, BLIND], False),
    ],
)
def test_all_must_see_the_run_and_one_commit(seen: Sequence[Seen], expected: bool) -> None:
    assert agree(seen) is expected


def test_who_sees_what_is_told() -> None:
    assert disagreement([NEW, BLIND, BLIND]) == "the run is not there for workers 1, 2"
    assert "64 samples, ab; 0 samples, none" in disagreement([AT_64, NEW])


def test_a_disk_that_shows_a_commit_late_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = iter([AT_64, AT_64, NEW])
    (tmp_path / "recipe.yaml").write_text("")
    monkeypatch.setattr(agreed, "_PAUSE", 0.0)
    monkeypatch.setattr(agreed, "gather_objects", lambda mine: [mine, next(others)])
    assert agreed_commit(str(tmp_path)) is None
    assert next(others, None) is None  # it looked three times


def test_workers_that_never_agree_tell_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreed, "_PAUSE", 0.0)
    monkeypatch.setattr(agreed, "gather_objects", lambda mine: [NEW, mine])
    with pytest.raises(UserError, match=r"not there for workers 1; --out must be one place"):
        agreed_commit(str(tmp_path))
