import json
import re
from typing import Any

import numpy as np

from cluster.report import charts
from cluster.report.read import read_run


def test_common_curves_come_first_and_others_follow(run: Any) -> None:
    drawn = charts.training_charts(read_run(run.url))
    assert [chart.title for chart in drawn] == [
        "Loss",
        "Samples per second",
        "Waiting for data",
        "Learning rate",
        "Gradient norm",
        "Accuracy",
    ]


def test_what_an_event_points_at_is_drawn_and_how_it_computed_falls_off(run: Any) -> None:
    phases = ("wait", "augment", "forward", "backward", "optimizer", "communication")
    first = {"samples": 100, "loss": 4.0, "accuracy": 0.1, "grad_norm": 1.0, "learning_rate": 0.1}
    first |= {"samples_per_second": 9.0, "data_wait_share": 0.0, "memory_bytes": 1e9, "mfu": 0.4}
    first |= {f"seconds_{name}": 0.1 for name in phases}
    looked = {"feature_rank": 3.0, "feature_spread": 0.5, "uniformity": -1.0, "alignment": 0.1}
    lines = [first, {**first, "samples": 200, **looked}]
    (run.root / "metrics.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    titles = [chart.title for chart in charts.training_charts(read_run(run.url))]
    assert titles[5:10] == ["Feature rank", "Feature spread", "Accuracy", "Uniformity", "Alignment"]
    assert titles[10].lower() == "mfu"
    assert "Seconds communication" not in titles


def test_summary_says_what_the_curve_shows(run: Any) -> None:
    lines = [{"samples": s, "loss": v} for s, v in ((100, 4.0), (200, 1.0), (300, 2.0))]
    (run.root / "metrics.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    (chart,) = charts.training_charts(read_run(run.url))
    assert chart.summary == (
        "Loss over 300 samples: first 4.000, last 2.000, lowest 1.000, highest 4.000."
    )


def test_marks_of_commits(run: Any) -> None:
    def marks() -> int:
        loss = charts.training_charts(read_run(run.url))[0]
        return len(re.findall(r"stroke: var\(--ink\)", loss.svg))

    assert marks() == 2
    (run.root / "checkpoints" / "000000000512" / "manifest.json").unlink()
    assert marks() == 1


def test_metrics_that_are_never_finite_have_no_chart(run: Any) -> None:
    text = '{"samples": 1, "loss": NaN, "a": 1}\n{"samples": 2, "loss": Infinity, "a": NaN}\n'
    (run.root / "metrics.jsonl").write_text(text)
    assert [chart.title for chart in charts.training_charts(read_run(run.url))] == ["A"]


def test_evaluation_of_a_single_checkpoint_shows_its_point(run: Any) -> None:
    view = read_run(run.url)
    history = view.histories()["knn", "emoji-shift"]
    chart = charts.evaluation_chart(view, history, "e")
    assert chart.title == "k-NN · emoji-shift"
    assert chart.note == "top1"
    assert len(re.findall(r"<use [^>]*var\(--accent\)", chart.svg)) == 1
    assert "var(--chance)" in chart.svg
    assert "top1 37.5\u202f% at 1,024 samples" in chart.summary
    assert "95 % interval 31.2–43.8\u202f%, chance 25.0\u202f%; 1 checkpoint." in chart.summary


def test_many_checkpoints_have_a_band(run: Any) -> None:
    for samples in (128, 256, 384):
        run.evaluate("zero_shot", "emoji-unseen", samples)
    view = read_run(run.url)
    chart = charts.evaluation_chart(view, view.histories()["zero_shot", "emoji-unseen"], "e")
    assert "opacity: 0.18" in chart.svg


def test_a_headline_that_is_no_share(run: Any) -> None:
    run.evaluate("knn", "emoji-shift", 1024, value=12.0, chance=100.0)
    view = read_run(run.url)
    chart = charts.evaluation_chart(view, view.histories()["knn", "emoji-shift"], "e")
    assert "top1 12.00 at" in chart.summary
    assert "%<" not in chart.svg


def test_buckets_keep_the_mean_and_the_extremes() -> None:
    samples = np.arange(1.0, 1201.0)
    values = np.where(samples == 600, 100.0, 1.0)
    x, mean, low, high = charts._buckets(samples, values)
    assert len(x) == charts._POINTS
    assert high.max() == 100.0
    assert low.max() == 1.0
    np.testing.assert_allclose(mean.max(), 1.0 + 99.0 / 10)
    np.testing.assert_allclose(x[0], 5.5)


def test_short_series_are_drawn_as_they_are() -> None:
    samples = np.array([1.0, 2.0])
    assert charts._buckets(samples, samples)[0] is samples


def test_ticks_are_short() -> None:
    ticks = [charts._tick(value) for value in (0.0, 2.5e-4, 1e-3, 0.05, 2.5, 15_000)]
    assert ticks == ["0", "2.5e-4", "1e-3", "0.05", "2.5", "15k"]
