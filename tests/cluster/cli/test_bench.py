"""The commands' words; what they measure is tested in ``tests/cluster/bench``."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from cluster.bench import scale
from cluster.cli.bench import _show, app

FOUND = {
    "open_seconds": 0.25,
    "seek_seconds": {"at 1%": 0.001},
    "plan_microseconds": {"mean": 80.0, "median": 40.0},
    "peak_megabytes": 235.0,
}


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_scale_is_told_to_people_and_to_machines(
    monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    asked: list[tuple[int, ...]] = []
    monkeypatch.setattr(scale, "simulate", lambda *each: asked.append(each) or FOUND)
    done = CliRunner().invoke(app, ["scale", "--samples", "100", "--shards", "2", *words])
    assert done.exit_code == 0, done.output
    assert asked == [(100, 2, 1024, 32_768)]
    if words:
        assert json.loads(done.output) == FOUND
    else:
        for part in ("open: 0.25 s", "seek at 1%: 1.00 ms", "80 microseconds", "235 MB"):
            assert part in done.output


def test_rates_are_shown_with_what_they_are_of_each_other(capsys) -> None:
    _show({"ours": 2000.0, "peer": 500.0}, {"peer": 4.0})
    text = capsys.readouterr().out
    assert "2,000" in text
    assert "4.00 times it" in text
