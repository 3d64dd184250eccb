"""The commands' words; what they measure is tested in ``tests/cluster/bench``."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from cluster.bench import augment, scale
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


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_augment_is_told_to_people_and_to_machines(
    monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    asked: list[augment.Augmenting] = []

    def candidates(augmenting: augment.Augmenting) -> dict[str, Callable[[], float]]:
        asked.append(augmenting)
        return {"ours": lambda: 3000.0, "kornia": lambda: 600.0}

    monkeypatch.setattr(augment, "candidates", candidates)
    options = ["--size", "64", "--batch", "8", "--rounds", "3", "--seconds", "2"]
    done = CliRunner().invoke(app, ["augment", *options, *words])
    assert done.exit_code == 0, done.output
    assert asked == [augment.Augmenting(64, 8, 2.0, "cpu")]
    if words:
        result = json.loads(done.stdout)
        assert (result["ours"], result["kornia"]) == (3000, 600)
        assert result["ratios"] == {"kornia": 5.0}
        assert result["rounds"] == {"ours": [3000.0] * 3, "kornia": [600.0] * 3}
        assert (result["size"], result["batch"], result["device"]) == (64, 8, "cpu")
        assert result["threads"] >= 1
    else:
        assert "3,000" in done.stdout
        assert "5.00 times it" in done.stdout


def test_rates_are_shown_with_what_they_are_of_each_other(capsys) -> None:
    _show({"ours": 2000.0, "peer": 500.0}, {"peer": 4.0})
    text = capsys.readouterr().out
    assert "2,000" in text
    assert "4.00 times it" in text
