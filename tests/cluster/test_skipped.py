from __future__ import annotations

from pathlib import Path

import pytest

from cluster.skipped import Skipped, read_skipped, write_skipped
from pipelines.core import StorageError


def test_a_run_skips_nothing_until_told(tmp_path: Path) -> None:
    assert read_skipped(str(tmp_path)).steps == ()


def test_windows_are_those_of_their_steps_and_are_kept(tmp_path: Path) -> None:
    write_skipped(str(tmp_path), Skipped().and_step(3, 16).and_step(9, 16))
    found = read_skipped(str(tmp_path))
    assert found.steps == (3, 9)
    assert [(w.start, w.stop) for w in found.windows] == [(32, 48), (128, 144)]
    assert [found.before(samples) for samples in (0, 32, 48, 130, 999)] == [0, 0, 16, 18, 32]


@pytest.mark.parametrize("text", ["", "[]", '{"windows": [{"step": "x"}]}', '{"more": 1}'])
def test_a_damaged_file_is_not_guessed_at(tmp_path: Path, text: str) -> None:
    (tmp_path / "skipped.json").write_text(text)
    with pytest.raises(StorageError, match=r"skipped\.json: damaged"):
        read_skipped(str(tmp_path))
