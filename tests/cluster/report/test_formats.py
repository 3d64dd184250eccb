import math

import pytest

from cluster.report import formats

GAP = "\u202f"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.184, "18.4"),
        (0.0184, "1.84"),
        (0.0008, "0.08"),
        (0.00081, "0.081"),
        (0.0, "0"),
        (1.0, "100.0"),
    ],
)
def test_share(value: float, text: str) -> None:
    assert formats.share(value) == f"{text}{GAP}%"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1204.4, "1,204"),
        (404.14, "404.1"),
        (3.14159, "3.142"),
        (0.0375, "0.03750"),
        (-2.5, "-2.500"),
        (0.0003, "3.0e-4"),
        (1e-12, "1.0e-12"),
        (9_999_999.4, "9,999,999"),
        (9_999_999.6, "1.000e7"),
        (-12_345_678, "-1.235e7"),
        (1e300, "1.000e300"),
    ],
)
def test_number(value: float, text: str) -> None:
    assert formats.number(value) == text


def test_unknown_is_a_dash() -> None:
    for form in (formats.count, formats.number, formats.share, formats.duration):
        assert form(None) == form(math.nan) == form(math.inf) == "–"
    assert formats.span(math.nan, 1.0, shares=True) == "–"
    assert formats.moment(None) == "–"


def test_duration() -> None:
    assert formats.duration(4.2) == f"4.2{GAP}s"
    assert formats.duration(199.6) == f"3{GAP}min 20{GAP}s"
    assert formats.duration(4325) == f"1{GAP}h 12{GAP}min"


def test_times() -> None:
    assert formats.times(0.375, 0.005) == f"75{GAP}×"
    assert formats.times(0.5, 0.25) == f"2.0{GAP}×"
    assert formats.times(0.5, 0.0) == ""


def test_span_and_compact() -> None:
    assert formats.span(0.171, 0.198, shares=True) == f"17.1–19.8{GAP}%"
    assert formats.span(1.0, 2.0, shares=False) == "1.000 to 2.000"
    assert [formats.compact(v) for v in (0, 512, 102_400, 1.5e6)] == ["0", "512", "102.4k", "1.5M"]


def test_words_and_moments() -> None:
    assert formats.words("zero_shot") == "Zero shot"
    assert (formats.words("mean_iou"), formats.metric("mean_iou")) == ("Mean IoU", "mean IoU")
    assert formats.metric("balanced_accuracy") == "balanced accuracy"
    assert formats.moment("2026-01-02T03:04:05+00:00") == "2026-01-02 03:04:05 UTC"
    assert formats.moment("yesterday") == "yesterday"
