import json

from cluster.report.metrics import collapses, parse_metrics


def lines(*samples: int) -> str:
    return "".join(json.dumps({"samples": s, "loss": float(s)}) + "\n" for s in samples)


def test_numbers_only() -> None:
    rows, damaged = parse_metrics('{"samples": 1, "loss": 2, "note": "x", "on": true}\n')
    assert rows == ({"samples": 1.0, "loss": 2.0},)
    assert damaged == 0


def test_a_torn_last_line_is_ignored() -> None:
    rows, damaged = parse_metrics(lines(1, 2) + '{"samples": 3, "lo')
    assert [row["samples"] for row in rows] == [1, 2]
    assert damaged == 0


def test_a_damaged_line_in_the_middle_is_counted() -> None:
    rows, damaged = parse_metrics(lines(1) + '{"samples"\n' + '{"loss": 1}\n' + lines(2))
    assert [row["samples"] for row in rows] == [1, 2]
    assert damaged == 2


def test_a_resume_replaces_what_came_after_its_checkpoint() -> None:
    rows, _ = parse_metrics(lines(1, 2, 3, 4) + lines(3, 5))
    assert [row["samples"] for row in rows] == [1, 2, 3, 5]


def test_not_a_number_stays_in_a_metric_but_is_no_sample_count() -> None:
    rows, damaged = parse_metrics('{"samples": NaN}\n{"samples": 1, "loss": NaN}\n')
    assert len(rows) == 1
    assert rows[0]["loss"] != rows[0]["loss"]
    assert damaged == 1


def test_nesting_without_end_is_a_damaged_line() -> None:
    rows, damaged = parse_metrics("[" * 100_000 + "\n" + lines(1))
    assert len(rows) == 1
    assert damaged == 1


def test_each_stretch_of_collapsed_features_counts_once() -> None:
    looks = [0, 1, 1, None, 1, 0, 0, None, 1]
    lines = [
        {"samples": 10.0 * place} | ({} if look is None else {"collapsed": float(look)})
        for place, look in enumerate(looks)
    ]
    assert collapses(lines) == [10, 80]
    assert collapses(lines[1:]) == [10, 80]
    assert collapses([]) == []
