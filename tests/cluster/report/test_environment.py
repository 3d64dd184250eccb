from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from cluster.report import environment


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "_HERE", tmp_path)
    (tmp_path / "page.html").write_text("<style>{{ style }}</style>{{ text }} {{ name | metric }}")
    for name in ("one", "two"):
        (tmp_path / f"{name}.css").write_text(f"p > .{name} {{}}")
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_values_are_escaped_and_sheets_are_not() -> None:
    page = environment.fill("page.html", ("one.css", "two.css"), text="<b>", name="mean_iou")
    assert page == "<style>p > .one {}\np > .two {}</style>&lt;b&gt; mean IoU"


@pytest.mark.usefixtures("folder")
def test_a_value_that_is_missing_is_no_empty_text() -> None:
    with pytest.raises(UndefinedError, match="text"):
        environment.fill("page.html", ())
