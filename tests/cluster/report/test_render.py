import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from cluster.report import render_report, write_report
from pipelines.core import UserError

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>{{ 7 * 7 }}$\\frac{"
VOID = {"meta", "img", "br", "link", "input", "hr", "use", "path"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags nest."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.attributes: list[tuple[str, str, str]] = []
        self.tags: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "

    def values(self, name: str) -> list[str]:
        return [value for _, key, value in self.attributes if key == name]


def test_says_what_matters(run: Any) -> None:
    page = Page(render_report(run.url))
    text = re.sub(r"\s+", " ", page.text)
    for words in (
        "clip-emoji-1",
        "finished",
        "Zero shot emoji-unseen 37.5 % top1",
        "95 % interval 31.2–43.8 %",
        "Times chance 75 ×",
        "above chance, at 1,024 samples",
        "Waiting for data 1.25 %",
        "Evaluation pause 0.30 %",
        "Quarantined samples 3",
        "eagleray train clip-emoji",
        "resumed",
        "red heart",
        "kind: clip seed: 1",
    ):
        assert words in text, words
    assert "Missing from this run" not in text
    assert "failed" not in text
    assert page.open == []


def test_needs_no_other_file(run: Any) -> None:
    html = render_report(run.url)
    page = Page(html)
    assert {"script", "link", "iframe", "object", "base"}.isdisjoint(page.tags)
    assert all(value.startswith("data:image/png;base64,") for value in page.values("src"))
    assert len(page.values("src")) == 4
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    links = page.values("href")
    assert links
    assert {link[1:] for link in links if link[0] == "#"} <= set(ids)
    assert all(link[0] == "#" for link in links)
    assert "http://" not in html
    assert "https://" not in html
    assert "@import" not in html
    assert set(re.findall(r"url\((.)", html)) <= {"#"}
    (policy,) = [v for v in page.values("content") if "default-src" in v]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")


def test_charts_follow_the_page_and_speak(run: Any) -> None:
    html = render_report(run.url)
    charts = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    assert len(charts) == 6 + 2
    assert not [c for c in charts if re.search(r"#[0-9a-fA-F]{6}\b", c)]
    page = Page(html)
    spoken = [v for _, k, v in page.attributes if k == "aria-label" and " samples" in v]
    assert len(spoken) == len(charts)
    assert all(page.values("alt"))


def test_hostile_text_stays_text(run: Any) -> None:
    picture = run.picture
    cells = [
        {"image": picture, "text": HOSTILE, "mark": "query"},
        {"text": HOSTILE, "score": 0.5, "mark": "wrong"},
    ]
    strip = [{"text": HOSTILE, "mark": "query"}, {"image": picture, "text": HOSTILE}]
    gallery = [{"group": HOSTILE, "cells": cells}, {"group": "strip", "cells": strip}]
    metrics = {"top1": 0.375, HOSTILE: 0.5}
    run.evaluate("zero_shot", "emoji-unseen", 1024, gallery=gallery, metrics=metrics)
    run.evaluate("knn", "emoji-shift", 1024, metrics={HOSTILE: 0.375}, headline=HOSTILE)
    run.fail("retrieval", "emoji-unseen", 1024, HOSTILE)
    result = run.root / "evaluations" / "000000001024" / "knn-emoji-shift.json"
    result.write_text(json.dumps(json.loads(result.read_text()) | {"dataset": HOSTILE}))
    facts = run.facts()
    facts |= {"name": HOSTILE, "command": HOSTILE, "started": HOSTILE, "device": HOSTILE}
    facts |= {"recipe": HOSTILE, "engine": {HOSTILE: HOSTILE}}
    facts |= {"events": [{"at": HOSTILE, "samples": 1, "text": HOSTILE}], HOSTILE: 1}
    run.write("run.json", facts)
    run.write("views.json", {"rows": [{"group": HOSTILE, "cells": cells}]})
    (run.root / "recipe.yaml").write_text(f"</pre>{HOSTILE}")
    with (run.root / "metrics.jsonl").open("a") as stream:
        stream.writelines(json.dumps({"samples": s, HOSTILE: 1.0}) + "\n" for s in (2048, 4096))
    page = Page(render_report(run.url))
    assert "script" not in page.tags
    assert not [key for _, key, _ in page.attributes if key.startswith("on")]
    assert all(value.startswith("data:image/png;base64,") for value in page.values("src"))
    assert page.open == []
    assert page.text.count(HOSTILE) >= 15
    assert HOSTILE in page.values("alt")


def test_hostile_pictures_are_left_out(run: Any) -> None:
    spoilt = run.picture[:60] + '" onerror="alert(1)'
    cells = [{"image": spoilt, "text": "a", "mark": "query"}, {"text": "b"}]
    run.evaluate("knn", "emoji-shift", 1024, gallery=[{"group": "correct", "cells": cells}])
    html = render_report(run.url)
    page = Page(html)
    assert "onerror" not in html
    assert len(page.values("src")) == 3
    assert "no picture" in page.text


def test_a_failed_evaluation_is_shown(run: Any) -> None:
    run.fail("retrieval", "emoji-unseen", 1024, "the worker was killed")
    page = Page(render_report(run.url))
    text = re.sub(r"\s+", " ", page.text)
    assert "1 evaluation failed Retrieval · emoji-unseen at 1,024 samples" in text
    assert "the worker was killed" in text
    assert "failures" in page.values("id")


def test_a_run_without_evaluations_lacks_none(empty_run: Any) -> None:
    page = Page(render_report(empty_run(run__json="{}", recipe__yaml="evaluations: []")))
    assert "The recipe asks for no evaluation." in page.text
    assert "has reported" not in page.text


@pytest.mark.parametrize("text", ["{}", '{"name": "young", "seconds": {"data": 1.0}}', "torn{"])
def test_an_unfinished_run_still_renders(empty_run: Any, text: str) -> None:
    page = Page(render_report(empty_run(run__json=text)))
    assert "Missing from this run" in page.text
    assert "not finished" in page.text
    assert "No evaluation has reported yet." in page.text
    assert "No metrics have been logged yet." in page.text
    assert "There is no metrics.jsonl." in page.text
    assert page.open == []


def test_a_run_of_one_line(empty_run: Any) -> None:
    html = render_report(empty_run(metrics__jsonl='{"samples": 64, "loss": 1.0}\n{"samples": 1'))
    assert len(re.findall("<svg", html)) == 1


def test_many_results_are_folded(run: Any) -> None:
    assert "<details open>" in render_report(run.url)
    for samples in range(1, 30):
        run.evaluate("zero_shot", "emoji-unseen", samples)
        run.evaluate("knn", "emoji-shift", samples)
    assert "<details open>" not in render_report(run.url)


def test_written_beside_the_run(run: Any) -> None:
    url = write_report(run.url + "/")
    assert url == f"{run.url}/report.html"
    assert (run.root / "report.html").read_text(encoding="utf-8") == render_report(run.url)
    assert [p.name for p in run.root.iterdir() if p.name.startswith(".")] == []


def test_no_run(tmp_path: Any) -> None:
    with pytest.raises(UserError, match="no run there"):
        write_report(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
