from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from cluster.report import is_finetuned, render_finetuned, write_finetuned
from cluster.report.finetuned import ensemble_charts, stage_rows
from pipelines.core import DataError
from tests.cluster.report.test_render import HOSTILE, Page
from trainers.core.evaluation import Cell, GalleryRow, Outcome
from trainers.core.pictures import png
from trainers.finetune import FinetuneResult
from trainers.finetune_task import Score, stage_of


def score(dataset: str, alpha: float | None, value: float, rows: int = 0) -> Score:
    picture = Cell(image=png(np.zeros((4, 4, 3), np.uint8)), text="cat", mark="query")
    row = GalleryRow(group="wrong", cells=(picture, Cell(text=HOSTILE, score=0.5, mark="wrong")))
    outcome = Outcome(
        metrics={"accuracy": value},
        headline="accuracy",
        chance=0.25,
        examples=1200,
        interval=(value - 0.03, value + 0.02),
        gallery=(row,) * rows,
    )
    stage = "knn" if alpha is None else stage_of(alpha)
    return Score(stage=stage, alpha=alpha, dataset=dataset, outcome=outcome)


def result(*scores: Score, checkpoint: str | None = "s3://bucket/run") -> FinetuneResult:
    return FinetuneResult(
        recipe=HOSTILE,
        mode="full",
        checkpoint=checkpoint,
        digest="abc" if checkpoint else None,
        samples=160000 if checkpoint else 0,
        classes=("cat", "dog"),
        labels={"cat": 12, HOSTILE: 1},
        pictures=13,
        scores=scores,
        seconds=72.0,
    )


ENSEMBLE = [
    score(name, alpha, value, rows=int(alpha == 1))
    for alpha, test, shift in ((0.0, 0.5, 0.4), (0.5, 0.62, 0.45), (1.0, 0.6, 0.3))
    for name, value in (("test", test), ("style", shift))
]


def test_the_page_says_what_was_done_and_what_came_of_it() -> None:
    page = Page(render_finetuned(result(*ENSEMBLE), "name: few\n"))
    text = re.sub(r"\s+", " ", page.text.replace("\u202f", " ").replace("\xa0", " "))
    for words in (
        "mode full tower pretrained on 160,000 samples 13 pictures with labels 2 classes",
        "Fine-tuned test 60.0 % accuracy",
        "Fine-tuned style 30.0 % accuracy",
        "above chance, of the test data",
        "above chance, of data that differ in kind",
        "Probe 50.0 % 47.0–52.0 % 40.0 %",
        "Ensemble 0.5 62.0 %",
        "Chance 25.0 % 25.0 %",
        "Examples 1,200 1,200",
        "cat 12",
        "s3://bucket/run",
        "1 min 12 s",
        "name: few",
    ):
        assert words in text, words
    assert page.open == []
    assert page.tags.count("svg") == 2


def test_nothing_of_a_recipe_or_a_label_is_run() -> None:
    page = Page(render_finetuned(result(*ENSEMBLE), HOSTILE))
    assert "script" not in page.tags
    assert not page.values("onerror")
    assert all(source.startswith("data:image/png;base64,") for source in page.values("src"))
    assert "{{ 7 * 7 }}" in page.text


def test_what_is_not_fine_tuned_has_no_chart() -> None:
    page = Page(render_finetuned(result(score("test", None, 0.4), checkpoint=None), ""))
    assert "svg" not in page.tags
    assert "tower of initial weights" in page.text
    assert "k-NN" in page.text


def test_a_chart_tells_the_best_share_in_words() -> None:
    test, style = ensemble_charts(ENSEMBLE)
    assert test.summary == (
        "test: accuracy 50.0\u202f% before fine-tuning, 60.0\u202f% after it, "
        "and at best 62.0\u202f% at a share of 0.5."
    )
    assert "at best 45.0" in style.summary
    assert ensemble_charts(ENSEMBLE[:2]) == []


def test_rows_are_in_the_order_of_scores() -> None:
    assert [row.stage for row in stage_rows(ENSEMBLE)] == ["Probe", "Ensemble 0.5", "Fine-tuned"]


def test_it_is_written_beside_the_results(tmp_path: Path) -> None:
    assert not is_finetuned(str(tmp_path))
    (tmp_path / "results.json").write_text(result(*ENSEMBLE).model_dump_json())
    (tmp_path / "recipe.yaml").write_text("name: few\n")
    assert is_finetuned(str(tmp_path))
    assert write_finetuned(str(tmp_path)) == str(tmp_path / "report.html")
    assert "name: few" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(("text", "words"), [("{}", "recipe: Field required"), ("x", "no JSON: ")])
def test_other_results_are_refused_in_one_line(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(DataError, match=rf"results.json: {words}.*run finetune again"):
        write_finetuned(str(tmp_path))
