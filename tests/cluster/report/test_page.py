from typing import Any

import pytest

from cluster.report import page
from cluster.report.read import read_run

GAP = "\u202f"


def test_tile_has_the_latest_result(run: Any) -> None:
    run.evaluate("zero_shot", "emoji-unseen", 1024, value=0.5)
    _, tile = page.tiles(read_run(run.url))
    assert (tile.title, tile.dataset, tile.samples) == ("Zero shot", "emoji-unseen", "1,024")
    assert (tile.value, tile.metric, tile.chance) == (
        f"50.0{GAP}%",
        "top1",
        f"0.5{GAP}%".replace("0.5", "0.50"),
    )
    assert tile.interval == f"43.8–56.2{GAP}%"
    assert tile.times == f"100{GAP}×"
    assert tile.gauge == {"low": 43.75, "high": 56.25, "value": 50.0, "chance": 0.5}


def test_a_failure_leaves_the_last_good_result(run: Any) -> None:
    run.fail("zero_shot", "emoji-unseen", 1024, "killed")
    view = read_run(run.url)
    assert page.tiles(view)[1].samples == "512"
    assert page.failures(view) == [("Zero shot · emoji-unseen", "1,024", "killed")]


@pytest.mark.parametrize(
    ("chance", "verdict"),
    [
        (0.1, "above chance"),
        (0.375, "not distinguishable from chance"),
        (0.3125, "not distinguishable from chance"),
        (0.9, "below chance"),
        (float("nan"), ""),
    ],
)
def test_verdict(run: Any, chance: float, verdict: str) -> None:
    run.evaluate("knn", "emoji-shift", 1024, chance=chance)
    assert page.tiles(read_run(run.url))[0].verdict == verdict


def test_no_gauge_without_shares(run: Any) -> None:
    run.evaluate("knn", "emoji-shift", 1024, value=12.0)
    tile = page.tiles(read_run(run.url))[0]
    assert tile.gauge is None
    assert tile.value == "12.00"


def test_speed_and_what_ran(run: Any) -> None:
    view = read_run(run.url)
    speed = {name: (value, remark) for name, value, remark in page.speed(view)}
    assert speed["Samples seen"] == ("1,024", "of 1,024 planned")
    assert speed["Waiting for data"][0] == f"1.25{GAP}%"
    assert speed["Quarantined samples"] == ("3", "left out, unreadable")
    ran = dict(page.what_ran(view))
    assert ran["Engine"] == [("zero stage", "0"), ("precision", "fp32")]
    assert ran["Host"][2] == ("accelerator", "none")
    assert ran["Dataset"][1] == ("samples", "5,116")
    assert ran["Checkpoints"] == [("", "at 512, 1,024")]


def test_many_checkpoints_are_counted(run: Any) -> None:
    for samples in range(2000, 2020):
        run.write(f"checkpoints/{samples:012}/manifest.json", {})
    ran = dict(page.what_ran(read_run(run.url)))
    assert ran["Checkpoints"] == [("", "22, the latest at 2,019 samples")]


def test_galleries_are_of_the_latest_result_that_has_one(run: Any) -> None:
    assert [g.samples for g in page.galleries(read_run(run.url))] == ["1,024", "1,024"]
    run.evaluate("zero_shot", "emoji-unseen", 1024, gallery=[])
    galleries = page.galleries(read_run(run.url))
    assert [(g.title, g.samples) for g in galleries] == [
        ("k-NN · emoji-shift", "1,024"),
        ("Zero shot · emoji-unseen", "512"),
    ]
