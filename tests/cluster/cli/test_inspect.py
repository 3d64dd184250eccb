"""``eagleray inspect`` as a user meets it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cluster.cli import inspect
from pipelines.core import UserError


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


@pytest.fixture
def tars(tmp_path: Path, make_tar) -> str:
    samples = {f"{n:02d}": {"png": picture(n), "txt": b"picture %d" % n} for n in range(9)}
    make_tar(tmp_path / "in" / "a-0.tar", {**samples, "bad\x1b[2J": {"png": b"?"}})
    make_tar(tmp_path / "in" / "a-1.tar", {"00": {"png": picture(0), "json": b'{"title": "x"}'}})
    return f"{tmp_path}/in/a-*.tar"


def run(capsys, *args, **options) -> str:
    inspect.command(*args, **options)
    return capsys.readouterr().out


def test_the_command_prints_json(tars: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cluster", "inspect", tars, "--json", "--text", "txt"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["url"], facts["shards"], facts["samples"]) == (tars, 2, 11)
    assert facts["looked_at"] == facts["unreadable"]["looked_at"] == 11
    assert facts["unreadable"]["examples"][0]["key"] == "bad\x1b[2J"
    assert facts["repeated_keys"]["across_shards"] == 1
    assert [field["field"] for field in facts["captions"]] == ["txt"]


def test_a_page_shows_as_many_samples_as_asked_and_the_unreadable_ones(
    tmp_path: Path, tars: str, capsys
) -> None:
    page = tmp_path / "out" / "sheet.html"
    inspect.command(tars, html=str(page), sheet=4, as_json=True)
    assert str(page) in capsys.readouterr().err.replace("\n", "")
    wrong, _, shown = page.read_text(encoding="utf-8").partition('id="samples"')
    assert wrong.count('<li class="sample broken"') == 1
    assert shown.count('<li class="sample') == 4


def test_people_see_tables(tars: str, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    lines = [" ".join(line.split()) for line in run(capsys, tars).splitlines()]
    assert "Unreadable samples 1 of 11 looked at" in lines
    assert any(line.startswith("png 11 100.0 % 1 B") for line in lines)
    assert "PNG 10 100.0 %" in lines
    assert "00 a-0.tar, a-1.tar 2" in lines
    assert "Width 40 40 40 40 40" in lines


def test_a_terminal_is_not_moved_by_what_a_data_set_says(tars: str, capsys) -> None:
    out = run(capsys, tars)
    assert "\x1b" not in out
    assert "bad\ufffd[2J" in out


def test_some_samples_or_all_are_looked_at(tars: str, capsys) -> None:
    some = json.loads(run(capsys, tars, samples=3, as_json=True))
    assert (some["looked_at"], some["samples"], some["pictures"]["count"]) == (3, 11, 3)
    everything = json.loads(run(capsys, tars, samples=3, full=True, as_json=True))
    assert everything["looked_at"] == 11


def test_json_has_the_names_that_are_documented(tars: str, capsys) -> None:
    facts = json.loads(run(capsys, tars, as_json=True))
    assert set(facts) == {
        *("url", "digest", "shards", "samples", "bytes", "skipped_members", "samples_per_shard"),
        *("shard_bytes", "damaged_shards", "damaged", "fields", "repeated_keys", "looked_at"),
        *("pictures", "videos", "audio", "json", "captions", "unreadable"),
    }


def test_the_page_does_not_depend_on_the_terminal(tmp_path: Path, tars: str, capsys) -> None:
    for name in ("a", "b"):
        run(capsys, tars, html=f"{tmp_path}/{name}.html", as_json=name == "a")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


@pytest.mark.parametrize("url", ["nowhere/*.tar", "in/a-0.txt"])
def test_a_mistake_is_one_line(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError) as caught:
        inspect.command(f"{tmp_path}/{url}")
    assert "\n" not in str(caught.value)
