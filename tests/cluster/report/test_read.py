import json
from pathlib import Path
from typing import Any

import fsspec
import pytest

from cluster.report.read import read_run
from pipelines.core import UserError


def test_reads_a_whole_run(run: Any) -> None:
    view = read_run(run.url)
    assert view.facts.name == "clip-emoji-1"
    assert view.recipe == "kind: clip\nseed: 1\n"
    assert view.checkpoints == (512, 1024)
    assert [(r.samples, r.evaluation) for r in view.results] == [
        (512, "zero_shot"),
        (1024, "knn"),
        (1024, "zero_shot"),
    ]
    assert len(view.views) == 1
    assert view.notes == ()
    assert view.failures == ()


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").write_text("")
    for url in (str(tmp_path), str(tmp_path / "absent"), str(tmp_path / "holiday.txt")):
        with pytest.raises(UserError, match=f"{url}: no run there; "):
            read_run(url)


def test_only_the_newest_pictures_of_an_evaluation_are_held(run: Any) -> None:
    gallery = [{"group": "g", "cells": [{"image": run.picture, "text": "t"}]}]
    for samples in (512, 1024, 1536):
        run.evaluate("knn", "emoji-shift", samples, gallery=gallery if samples < 1536 else [])
    held = {
        r.samples: bool(r.outcome.gallery)
        for r in read_run(run.url).results
        if r.evaluation == "knn"
    }
    assert held == {512: False, 1024: True, 1536: False}


def test_reads_any_filesystem(run: Any) -> None:
    fsspec.filesystem("memory").put(run.url, "/report-test-run", recursive=True)
    assert read_run("memory://report-test-run").checkpoints == (512, 1024)


def test_a_folder_without_manifest_is_no_checkpoint(run: Any) -> None:
    run.write("checkpoints/000000002048/state.json", {})
    run.write("checkpoints/latest/manifest.json", {})
    assert read_run(run.url).checkpoints == (512, 1024)


def test_an_unreadable_result_is_a_failure(run: Any) -> None:
    folder = run.root / "evaluations" / "000000001024"
    (folder / "linear_probe-emoji-train.json").write_text('{"evaluation": ')
    (folder / ".knn-emoji.json").write_text("being written")
    (failure,) = read_run(run.url).failures
    assert (failure.evaluation, failure.dataset) == ("linear_probe", "emoji-train")
    assert failure.samples == 1024
    assert failure.error == "The result file cannot be read."


def test_a_result_without_its_headline_is_a_failure(run: Any) -> None:
    run.evaluate("zero_shot", "emoji-unseen", 1024, headline="median_rank")
    (failure,) = read_run(run.url).failures
    assert failure.error == "The result file has no headline metric."


def test_samples_seen_falls_back_to_the_metrics(run: Any) -> None:
    facts = run.facts()
    del facts["samples_seen"]
    run.write("run.json", facts)
    with (run.root / "metrics.jsonl").open("a") as stream:
        stream.write('{"samples": 99')
    view = read_run(run.url)
    assert view.samples_seen == 1024
    assert view.notes == ("Not in run.json: samples_seen.",)


def test_bytes_torn_within_a_letter(run: Any) -> None:
    with (run.root / "metrics.jsonl").open("ab") as stream:
        stream.write('{"samples": 2048, "é'.encode()[:-1])
    assert read_run(run.url).samples_seen == 1024


@pytest.mark.parametrize("text", ['{"rows": [{"group": 1}]}', '{"rows": 5}', "[]x", ""])
def test_unreadable_views(run: Any, text: str) -> None:
    (run.root / "views.json").write_text(text)
    assert read_run(run.url).views == ()


def test_an_unreadable_run_file(run: Any) -> None:
    (run.root / "run.json").write_text("[1]")
    view = read_run(run.url)
    assert view.facts.name is None
    assert view.notes == ("run.json cannot be read.",)


@pytest.mark.parametrize(
    ("recipe", "missing"),
    [("evaluations: []", False), ("evaluations: [{kind: knn}]", True), ("a: 1", True), ("[", True)],
)
def test_evaluations_that_nobody_asked_for_are_not_missing(
    empty_run: Any, recipe: str, missing: bool
) -> None:
    view = read_run(empty_run(recipe__yaml=recipe))
    assert view.evaluates == missing
    assert ("No evaluation has reported." in view.notes) == missing


def test_notes_tell_what_is_not_there(empty_run: Any) -> None:
    notes = read_run(empty_run(run__json=json.dumps({"name": "young"}))).notes
    assert "There is no recipe.yaml." in notes
    assert "There is no metrics.jsonl." in notes
    assert "No checkpoint has been committed." in notes
    assert "No evaluation has reported." in notes
    assert any(note.startswith("Not in run.json: recipe, command, started") for note in notes)
