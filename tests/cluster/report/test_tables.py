from typing import Any

import pytest

from cluster.report import tables
from cluster.report.read import read_run
from cluster.report.tables import evaluations
from trainers.core.evaluation import Outcome

GAP = "\u202f"


def test_one_table_an_evaluation_with_all_its_datasets(run: Any) -> None:
    run.evaluate("zero_shot", "emoji-shift", 512)
    knn, zero_shot = evaluations(read_run(run.url))
    assert knn.title == "k-NN"
    assert [(row.dataset, row.samples) for row in zero_shot.rows] == [
        ("emoji-shift", "512"),
        ("emoji-unseen", "512"),
        ("emoji-unseen", "1,024"),
    ]
    assert [chart.title for chart in zero_shot.charts] == [
        "Zero shot · emoji-shift",
        "Zero shot · emoji-unseen",
    ]


def test_columns_of_all_metrics(run: Any) -> None:
    run.evaluate("knn", "emoji-shift", 1024, metrics={"top1": 0.375, "entropy": 0.25})
    knn = evaluations(read_run(run.url))[0]
    assert (knn.headline, knn.columns, knn.others) == ("top1", ("entropy",), False)
    (row,) = knn.rows
    assert row.value == f"37.5{GAP}%"
    assert row.columns == ("0.2500",)  # in [0, 1], but no accuracy by its name
    assert row.examples == "200"


def test_a_metric_that_a_row_lacks(run: Any) -> None:
    run.evaluate("zero_shot", "emoji-unseen", 512, metrics={"top1": 0.375})
    zero_shot = evaluations(read_run(run.url))[1]
    assert [row.columns for row in zero_shot.rows] == [("–",), (f"62.5{GAP}%",)]


def test_many_metrics_share_a_cell(run: Any) -> None:
    metrics = {"top1": 0.375, **{f"recall@{k}": 0.5 for k in range(6)}}
    run.evaluate("knn", "emoji-shift", 1024, metrics=metrics)
    knn = evaluations(read_run(run.url))[0]
    assert (knn.columns, knn.others) == ((), True)
    assert knn.rows[0].others[5] == ("recall@5", f"50.0{GAP}%")
    assert len(knn.rows[0].others) == 6


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("balanced_accuracy", "25.0\u202f%"),
        ("image_to_text_r5", "25.0\u202f%"),
        ("text_to_image_r10", "25.0\u202f%"),
        ("unknown_labels", "25.0\u202f%"),
        ("loss", "0.2500"),
        ("error_r", "0.2500"),
    ],
)
def test_shares_are_told_as_per_cent_and_losses_are_not(name: str, told: str) -> None:
    outcome = Outcome(
        metrics={"top1": 0.5, name: 0.25},
        headline="top1",
        chance=0.1,
        examples=100,
        interval=(0.4, 0.6),
    )
    assert tables._metric(name, 0.25, outcome) == told
