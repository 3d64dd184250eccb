from __future__ import annotations

import pyarrow as pa

from pipelines.inspection import fields
from pipelines.inspection.fields import Fields
from pipelines.shards.entries import SCHEMA


def entries(*samples: dict[str, int]) -> pa.Table:
    zeros = [0] * len(samples)
    names = [list(sample) for sample in samples]
    sizes = [list(sample.values()) for sample in samples]
    columns = [[str(n) for n in range(len(samples))], zeros, zeros, names, sizes, sizes]
    return pa.table(columns, schema=SCHEMA)


def test_members_are_counted_over_all_shards() -> None:
    found = Fields()
    found.add(entries({"jpg": 10, "txt": 1}, {"jpg": 30}))
    found.add(entries({"txt": 3, "jpg": 20}))
    found.add(entries())
    summary = found.summary(4)
    assert summary["others"] is None
    assert [(n["extension"], n["samples"], n["share"]) for n in summary["named"]] == [
        ("jpg", 3, 0.75),
        ("txt", 2, 0.5),
    ]
    jpg, txt = (named["bytes"] for named in summary["named"])
    assert (jpg["min"], jpg["median"], jpg["mean"], jpg["max"], jpg["total"]) == (
        10,
        20,
        20,
        30,
        60,
    )
    assert (txt["min"], txt["max"], txt["total"]) == (1, 3, 4)


def test_names_that_differ_in_every_sample_do_not_fill_the_memory(monkeypatch) -> None:
    monkeypatch.setattr(fields, "NAMES", 3)
    found = Fields()
    found.add(entries({"jpg": 1, "0.txt": 1}, {"jpg": 1, "1.txt": 1}))
    found.add(entries({"jpg": 1, "2.txt": 1}, {"jpg": 1, "3.txt": 1}))
    summary = found.summary(4)
    assert [named["extension"] for named in summary["named"]] == ["jpg", "0.txt", "1.txt"]
    assert summary["named"][0]["samples"] == 4
    assert summary["others"] == {"members": 2, "example": "2.txt"}
