"""``eagleray finetune`` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from cluster.cli import finetune, report
from pipelines.core import ConfigError
from tests.trainers.conftest import SMALL_TOWERS
from tests.trainers.test_finetune import sample


@pytest.fixture
def recipe(tmp_path: Path, make_tar) -> str:
    for seed, (name, count) in enumerate({"train": 18, "test": 12, "dark": 9}.items()):
        make_tar(tmp_path / f"{name}.tar", {f"{n:03}": sample(n, seed) for n in range(count)})
    data = {
        "name": "few",
        "random": {"image": SMALL_TOWERS["image"], "size": 16},
        "train": f"{tmp_path}/train.tar",
        "test": f"{tmp_path}/test.tar",
        "shift": {"dark": f"{tmp_path}/dark.tar"},
        "labels": {"per_class": 2},
        "mode": {"kind": "full", "epochs": 2, "ensemble": [0.5]},
    }
    path = tmp_path / "few.yaml"
    path.write_text(yaml.safe_dump(data))
    return str(path)


def run(capsys, recipe: str, **options) -> str:
    finetune.command(recipe, **options)
    return capsys.readouterr().out


def test_a_table_of_stages_and_sets(capsys, recipe: str, tmp_path: Path) -> None:
    out = run(capsys, recipe, out=str(tmp_path / "out"))
    title, head, *rows = [line.split() for line in out.splitlines()]
    assert " ".join(title) == "6 pictures with labels, 3 classes, initial weights"
    assert head == ["accuracy", "test", "dark"]
    assert [" ".join(row).partition(" %")[0].rpartition(" ")[0] for row in rows[:-1]] == [
        "probe",
        "ensemble 0.5",
        "fine-tuned",
        "chance",
    ]
    assert rows[-1] == ["examples", "12", "9"]


def test_json_is_what_was_filed(capsys, recipe: str, tmp_path: Path) -> None:
    place = tmp_path / "out"
    printed = json.loads(run(capsys, recipe, out=str(place), as_json=True))
    filed = json.loads((place / "results.json").read_text())
    pictures = [score["outcome"].pop("gallery") for score in filed["scores"]]
    assert printed == filed  # but for pictures
    assert [len(rows) for rows in pictures] == [0, 0, 0, 0, 12, 9]
    assert {score["alpha"] for score in printed["scores"]} == {0, 0.5, 1}


def test_a_report_is_written_and_written_anew(capsys, recipe: str, tmp_path: Path) -> None:
    place = tmp_path / "out"
    run(capsys, recipe, out=str(place))
    first = (place / "report.html").read_text()
    (place / "report.html").unlink()
    report.command(str(place))
    assert capsys.readouterr().out.strip() == str(place / "report.html")
    assert (place / "report.html").read_text() == first
    report.command(str(place), as_json=True)
    assert json.loads(capsys.readouterr().out)["recipe"] == "few"


def test_its_place_is_named_after_the_recipe(
    capsys, recipe: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(capsys, recipe, overrides=["mode={kind: knn}"])
    assert (tmp_path / "runs" / "finetune-few" / "results.json").exists()


def test_an_override_that_is_wrong_is_refused(recipe: str) -> None:
    with pytest.raises(ConfigError, match=r"few.yaml: mode.epoch: unknown key"):
        finetune.command(recipe, overrides=["mode.epoch=3"])
