from __future__ import annotations

from typing import Any

import pytest

from cluster.report.contact_sheet_tables import Table, name, size, tables
from pipelines.inspection import look_at, measure_index
from pipelines.sources.webdataset import WebDataset


def quiet(done: int, total: int) -> None:
    pass


def measured(folder, make_tar, samples) -> dict[str, Any]:
    make_tar(folder / "a-0.tar", samples)
    source = WebDataset(WebDataset.Config(url=f"{folder}/a-*.tar"))
    index = source.index
    return {**measure_index(index, quiet), **look_at(source, len(index), [], quiet)}


def by_title(facts: dict[str, Any]) -> dict[str, Table]:
    found = tables(facts)
    for table in found:
        assert {len(row) for row in table.rows} == {len(table.head)}
        assert len(table.bars) in (0, len(table.rows))
    return {table.title: table for table in found}


def test_what_a_data_set_does_not_hold_has_no_table(tmp_path, make_tar) -> None:
    found = by_title(measured(tmp_path, make_tar, {"a": {"npy": b"12"}}))
    assert list(found) == ["Data set", "Members"]
    assert ("Unreadable samples", "0 of 1 looked at") in found["Data set"].rows
    assert found["Members"].rows[0][:4] == ("npy", "1", "100.0\u202f%", "2\u202fB")


def test_texts_and_documents_are_shown(tmp_path, make_tar) -> None:
    samples = {"a": {"txt": b"one two", "json": b'{"n": 1}'}, "b": {"txt": b"", "json": b"[]"}}
    found = by_title(measured(tmp_path, make_tar, samples))
    assert found["Texts"].rows == [("txt", "2", "0", "50.0\u202f%", "0\u202f%")]
    assert found["Texts"].note == "of 2 samples looked at"
    length = found["Texts: length"].rows[0]
    assert length == ("txt", "characters", "0", "3.500", "3.500", "6.650", "7")
    assert found["JSON"].rows == [("json", "n", "integer", "1"), ("json", "–", "array", "1")]


def test_what_is_wrong_is_listed(tmp_path, make_tar) -> None:
    make_tar(tmp_path / "a-1.tar", {"a": {"png": b"?"}})
    (tmp_path / "a-2.tar").write_bytes((tmp_path / "a-1.tar").read_bytes()[:600])
    found = by_title(measured(tmp_path, make_tar, {"a": {"png": b"?"}, "b": {"txt": b"ok"}}))
    assert [title for title, table in found.items() if table.bad] == [
        "Damaged shards",
        "Why samples are unreadable",
        "Unreadable samples",
        "Repeated keys",
    ]
    assert found["Damaged shards"].rows[0][0] == "a-2.tar"
    reason = "png: not a readable image (UnidentifiedImageError)"
    assert found["Why samples are unreadable"].rows == [("2", reason)]
    assert found["Why samples are unreadable"].note == "3 of 3 looked at"
    assert found["Unreadable samples"].rows[1] == ("a", "a-1.tar", reason)
    assert found["Repeated keys"].rows == [("a", "a-0.tar, a-1.tar", "2")]
    assert found["Repeated keys"].note.startswith("1 samples have the key of one before them, 0")


def test_pictures_films_and_sounds_are_shown() -> None:
    facts = {"min": 1, "median": 2, "mean": 2.5, "p95": 3, "max": 4, "total": 10}
    sides = [{"from": 64, "below": 128, "count": 1}, {"from": 128, "below": None, "count": 3}]
    sizes = {"count": 4, "width": facts, "height": facts, "shorter_side": sides}
    audio = {"count": 1, "codecs": {"aac": 1}, "rates": {"8000": 1}, "channels": {"2": 1}}
    audio["seconds"] = None
    found = by_title(
        {
            "samples": 4,
            "looked_at": 4,
            "shards": 1,
            "bytes": 1,
            "samples_per_shard": facts,
            "shard_bytes": facts,
            "damaged_shards": 0,
            "damaged": [],
            "skipped_members": 0,
            "fields": {"named": [], "others": None},
            "repeated_keys": {"keys": 0, "samples": 0, "within_shards": 0, "examples": []},
            "unreadable": {"samples": 0, "reasons": {}, "examples": []},
            "pictures": {
                **sizes,
                "formats": {"JPEG": 4},
                "grey": 2,
                "alpha": 0,
                "cmyk": 0,
                "rotated": 1,
            },
            "videos": {
                **sizes,
                "codecs": {"h264": 4},
                "seconds": facts,
                "frames_per_second": facts,
                "with_audio": 1,
                "without_audio": 3,
                "audio": audio,
            },
            "audio": audio,
            "captions": [],
            "json": {"keys": [], "others": 0},
        }
    )
    kinds = [(row[0], row[1]) for row in found["Pictures"].rows]
    assert kinds == [("JPEG", "4"), ("grey", "2"), ("rotated by EXIF", "1")]
    assert found["Pictures"].bars == [1.0, 0.5, 0.25]
    assert found["Pictures: pixels"].rows[0] == ("Width", "1", "2", "2", "3", "4")
    sides_shown = [row[0] for row in found["Pictures: shorter side"].rows]
    assert sides_shown == ["64 to 127", "128 and more"]
    assert ("without audio", "3", "75.0\u202f%") in found["Videos"].rows
    assert found["Videos: length and rate"].rows[0][3] == "2.500"
    kinds = [(row[0], row[1]) for row in found["Audio"].rows]
    assert kinds == [("aac", "1"), ("8000 Hz", "1"), ("channels: 2", "1")]
    assert found["Audio: length"].rows == [("Seconds", *["–"] * 5)]
    assert "Audio tracks of videos" in found


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1 kB"),
        (1000, "1 kB"),
        (999_499, "999 kB"),
        (999_999, "1 MB"),
        (9.9996e8, "1 GB"),
        (5e9, "5 GB"),
        (1e15, "1 PB"),
        (9.999e17, "1,000 PB"),
        (1.5e19, "15,000 PB"),
    ],
)
def test_a_size_has_the_unit_of_what_is_shown(value: float, text: str) -> None:
    assert size(value) == text.replace(" ", "\u202f")


def test_sizes_and_names() -> None:
    assert size(None) == "–"
    assert size(2.5e12) == "2.5\u202fTB"
    assert name("s3://bucket/folder/a-0.tar") == "a-0.tar"
