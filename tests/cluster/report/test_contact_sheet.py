from __future__ import annotations

import base64
import re
from typing import Any

import pytest

from cluster.report.contact_sheet import render_sheet
from pipelines.inspection import Preview, Thumbnail, Wave, look_at, measure_index
from pipelines.sources.webdataset import WebDataset
from tests.cluster.report.test_render import HOSTILE, Page

JPEG = Thumbnail(b"\xff\xd8\xff picture", 120, 80, (1200, 800))
PNG = Thumbnail(b"\x89PNG picture", 32, 32, (32, 32))


def quiet(done: int, total: int) -> None:
    pass


@pytest.fixture
def facts(tmp_path, make_tar) -> dict[str, Any]:
    """Of a data set whose every name is hostile, as far as tars allow."""
    hostile = HOSTILE.replace("/", "").replace(".", "")[:60]
    document = b'{"<script>alert(1)</script>": 1}'
    make_tar(tmp_path / "a-0.tar", {hostile: {"png": b"?", "<b>": b"", "json": document}})
    make_tar(tmp_path / "a-1.tar", {hostile: {"txt": b"fine"}})
    source = WebDataset(WebDataset.Config(url=f"{tmp_path}/a-*.tar"))
    return {**measure_index(source.index, quiet), **look_at(source, 2, [], quiet)}


def sheet(facts: dict[str, Any], *samples: Preview, unreadable: tuple[Preview, ...] = ()) -> Page:
    return Page(render_sheet("s3://bucket/a-*.tar", facts, samples, unreadable))


def test_the_page_needs_nothing_else_and_runs_nothing(facts) -> None:
    film = Preview("s", "k", "", frames=[JPEG], wave=Wave([0.5], 1.0, 1.0))
    html = render_sheet(
        "s3://bucket/a-*.tar", facts, [Preview("s", "k", "", pictures=[PNG]), film], []
    )
    page = Page(html)
    assert not page.open
    assert not {"script", "iframe", "object", "embed", "link", "base", "form"} & set(page.tags)
    policy = next(v for tag, _, v in page.attributes if tag == "meta" and "default-src" in v)
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert "script-src" not in policy
    for _, attribute, value in page.attributes:
        assert not attribute.startswith("on")
        if attribute in ("src", "href"):
            assert value.startswith(("data:image/", "#"))
    assert "url(" not in html
    assert "@import" not in html


def test_nothing_of_a_data_set_becomes_markup(facts) -> None:
    hostile = Preview(
        shard=f"s3://b/{HOSTILE}",
        key=HOSTILE,
        reason=HOSTILE,
        members=[(HOSTILE, 1)],
        pictures=[PNG],
        texts=[(HOSTILE, HOSTILE)],
    )
    page = Page(render_sheet(HOSTILE, facts, [hostile], [hostile]))
    assert not page.open
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert not [a for _, a, _ in page.attributes if a.startswith("on")]
    assert page.tags.count("img") == 2
    assert page.text.count("{{ 7 * 7 }}") >= 8
    assert "<script>alert(1)</script>" in page.text  # a key of a JSON member


def test_pictures_are_data_of_their_own_kind(facts) -> None:
    page = sheet(facts, Preview("s", "k", "", pictures=[JPEG, PNG]))
    sources = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    assert [source.split(",")[0] for source in sources] == [
        "data:image/jpeg;base64",
        "data:image/png;base64",
    ]
    assert base64.b64decode(sources[0].split(",")[1]) == JPEG.data
    sides = [value for tag, name, value in page.attributes if tag == "img" and name == "width"]
    assert sides == ["120", "32"]
    assert "1200 × 800" in page.text


def test_frames_have_their_times_and_the_film_its_size(facts) -> None:
    frames = [
        Thumbnail(JPEG.data, 24, 16, (1280, 720), 1.5),
        Thumbnail(JPEG.data, 24, 16, (9, 9), 75),
    ]
    page = sheet(facts, Preview("b/a-0.tar", "k", "", members=[("mp4", 2000)], frames=frames))
    assert "at 1.5\u202fs" in page.text
    assert "at 1\u202fmin 15\u202fs" in page.text
    assert "1280 × 720, mp4 2\u202fkB" in page.text


def drawn(page: Page) -> list[tuple[float, float, float]]:
    (path,) = [value for tag, name, value in page.attributes if (tag, name) == ("path", "d")]
    bars = re.findall(r"M([\d.]+) ([\d.]+)v([\d.]+)", path)
    return [(float(x), float(y), float(height)) for x, y, height in bars]


def test_a_waveform_fills_its_height_and_says_how_loud_it_is(facts) -> None:
    page = sheet(facts, Preview("s", "k", "", wave=Wave([0.05, 0.1, 0.0], 30.0, 75.0)))
    assert drawn(page) == [(0.5, 10.5, 19.0), (1.5, 1.0, 38.0), (2.5, 19.5, 1.0)]
    assert ("svg", "viewbox", "0 0 3 40") in page.attributes
    assert "the first 30\u202fs of 1\u202fmin 15\u202fs, peak -20 dB" in page.text


def test_silence_is_silent(facts) -> None:
    page = sheet(facts, Preview("s", "k", "", wave=Wave([0.0, 0.0], 1.0, 1.0)))
    assert [height for _, _, height in drawn(page)] == [1.0, 1.0]
    assert "sound, 1\u202fs, silent" in page.text


def test_unreadable_samples_stand_by_themselves_with_their_reasons(facts) -> None:
    broken = Preview("b/a-0.tar", "k7", "not a readable image", members=[("jpg", 17)])
    page = sheet(facts, unreadable=(broken,))
    assert ("section", "id", "wrong") in page.attributes
    assert ("section", "id", "samples") not in page.attributes
    assert ("li", "class", "sample broken") in page.attributes
    assert "unreadable not a readable image" in " ".join(page.text.split())
    assert "jpg 17\u202fB" in page.text


def test_a_sound_data_set_has_nothing_wrong(tmp_path, make_tar) -> None:
    make_tar(tmp_path / "b-0.tar", {"a": {"txt": b""}})
    source = WebDataset(WebDataset.Config(url=f"{tmp_path}/b-*.tar"))
    found = {**measure_index(source.index, quiet), **look_at(source, 1, [], quiet)}
    page = sheet(found, Preview("s", "k", "", texts=[("txt", "")]))
    assert "What is wrong" not in page.text
    assert ("section", "id", "samples") in page.attributes
    assert "empty" in page.text
