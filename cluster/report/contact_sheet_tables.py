"""What was measured of a data set, as tables of strings: for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.report import formats

_LISTED = 40  # fields, keys of JSON members, unreadable samples: the JSON output has more
_REASONS = 10
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_QUANTILES = ("min", "median", "mean", "p95", "max")
_HEADS = ("Min", "Median", "Mean", "P95", "Max")

Facts = Mapping[str, Any]
Show = Callable[[float | None], str]


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: Its heading.
        head: Names of its columns.
        rows: Cells; as many in each row as there are columns.
        note: What to know about it.
        bars: A share for every row, drawn where a page can; or none at all.
        words: How many columns hold words, which stand to the left: the first ones.
        bad: Whether it lists what is wrong.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    bars: Sequence[float] = ()
    words: int = 1
    bad: bool = False


def tables(facts: Facts) -> list[Table]:
    """All tables of a data set, those that hold something.

    Args:
        facts: What ``measure_index`` and ``look_at`` found.
    """
    looked = f"of {formats.count(facts['looked_at'])} samples looked at"
    made = [
        _whole(facts),
        *_problems(facts),
        _fields(facts["fields"]),
        *_pictures(facts["pictures"], looked),
        *_films(facts["videos"], looked),
        *_sounds("Audio", facts["audio"], looked),
        *_captions(facts["captions"], looked),
        _documents(facts["json"], looked),
    ]
    return [table for table in made if table.rows]


def size(value: float | None) -> str:
    """Bytes as people read them.

    >>> size(999), size(12345), size(5_000_000_000)
    ('999\u202fB', '12.3\u202fkB', '5\u202fGB')
    """
    if value is None:
        return formats.NONE
    shown = f"{value:.0f}"
    for power, unit in enumerate(_UNITS):
        if float(shown) < 1000:  # of what is shown: 999,999 bytes are 1 MB
            return f"{shown}\u202f{unit}"
        shown = f"{value / 1000 ** (power + 1):.3g}"
    return f"{value / 1e15:,.0f}\u202fPB"


def name(url: str) -> str:
    """A shard's name in its folder."""
    return url.rpartition("/")[2]


def _whole(facts: Facts) -> Table:
    held, sizes = facts["samples_per_shard"], facts["shard_bytes"]
    repeated, unreadable = facts["repeated_keys"], facts["unreadable"]
    of = f"{formats.count(unreadable['samples'])} of {formats.count(facts['looked_at'])} looked at"
    rows = [
        ("Samples", formats.count(facts["samples"])),
        ("Shards", formats.count(facts["shards"])),
        ("Size", size(facts["bytes"])),
        ("Samples a shard, min · median · max", _range(held, formats.count)),
        ("Bytes a shard, min · median · max", _range(sizes, size)),
        ("Unreadable samples", of),
        ("Damaged shards", formats.count(facts["damaged_shards"])),
        ("Keys that several samples have", formats.count(repeated["keys"])),
        ("Members that belong to no sample", formats.count(facts["skipped_members"])),
    ]
    return Table("Data set", ("What", "How much"), rows)


def _problems(facts: Facts) -> Iterator[Table]:
    damaged, repeated, unreadable = facts["damaged"], facts["repeated_keys"], facts["unreadable"]
    rows = [(name(row["shard"]), row["reason"]) for row in damaged[:_LISTED]]
    note = _first(len(rows), facts["damaged_shards"])
    yield Table("Damaged shards", ("Shard", "Reason"), rows, note, words=2, bad=True)
    reasons = list(unreadable["reasons"].items())[:_REASONS]
    rows = [(formats.count(count), reason) for reason, count in reasons]
    note = f"{formats.count(facts['looked_at'])} of {formats.count(facts['samples'])} looked at"
    yield Table("Why samples are unreadable", ("Samples", "Reason"), rows, note, words=2, bad=True)
    examples = unreadable["examples"][:_LISTED]
    lines = [(row["key"], name(row["shard"]), row["reason"]) for row in examples]
    note = _first(len(lines), unreadable["samples"])
    head = ("Key", "Shard", "Reason")
    yield Table("Unreadable samples", head, lines, note, words=3, bad=True)
    lines = [
        (row["key"], ", ".join(map(name, row["shards"])), formats.count(row["samples"]))
        for row in repeated["examples"]
    ]
    note = (
        f"{formats.count(repeated['samples'])} samples have the key of one before them, "
        f"{formats.count(repeated['within_shards'])} of them in the same shard; "
        + _first(len(lines), repeated["keys"])
    )
    yield Table("Repeated keys", ("Key", "Shards", "Samples"), lines, note, words=2, bad=True)


def _fields(fields: Facts) -> Table:
    rows = [
        (
            row["extension"],
            formats.count(row["samples"]),
            formats.share(row["share"]),
            *(size(row["bytes"][part]) for part in ("min", "median", "mean", "max", "total")),
        )
        for row in fields["named"][:_LISTED]
    ]
    head = ("Extension", "Samples", "Share", "Min", "Median", "Mean", "Max", "Total")
    others = fields["others"]
    note = _first(len(rows), len(fields["named"]))
    if others:
        note = f"{formats.count(others['members'])} more members, such as .{others['example']}"
    return Table("Members", head, rows, note)


def _pictures(facts: Facts | None, looked: str) -> Iterator[Table]:
    if facts is None:
        return
    kinds = {"grey": "grey", "alpha": "with alpha", "cmyk": "CMYK", "rotated": "rotated by EXIF"}
    found = {**facts["formats"], **{kinds[kind]: facts[kind] for kind in kinds if facts[kind]}}
    yield _shares("Pictures", "Kind", found, facts["count"], looked)
    yield from _sizes("Pictures", facts)


def _films(facts: Facts | None, looked: str) -> Iterator[Table]:
    if facts is None:
        return
    sound = {"with audio": facts["with_audio"], "without audio": facts["without_audio"]}
    found = {**facts["codecs"], **{kind: count for kind, count in sound.items() if count}}
    yield _shares("Videos", "Kind", found, facts["count"], looked)
    lengths = [
        ("Seconds", *_quantiles(facts["seconds"], _number)),
        ("Frames a second", *_quantiles(facts["frames_per_second"], _number)),
    ]
    yield Table("Videos: length and rate", ("", *_HEADS), lengths)
    yield from _sizes("Videos", facts)
    yield from _sounds("Audio tracks of videos", facts["audio"], looked)


def _sounds(title: str, facts: Facts | None, looked: str) -> Iterator[Table]:
    if facts is None:
        return
    found = {
        **facts["codecs"],
        **{f"{rate} Hz": count for rate, count in facts["rates"].items()},
        **{f"channels: {number}": count for number, count in facts["channels"].items()},
    }
    yield _shares(title, "Kind", found, facts["count"], looked)
    lengths = [("Seconds", *_quantiles(facts["seconds"], _number))]
    yield Table(f"{title}: length", ("", *_HEADS), lengths)


def _sizes(title: str, facts: Facts) -> Iterator[Table]:
    rows = [
        ("Width", *_quantiles(facts["width"], formats.count)),
        ("Height", *_quantiles(facts["height"], formats.count)),
    ]
    yield Table(f"{title}: pixels", ("", *_HEADS), rows)
    bins = {_bin(row["from"], row["below"]): row["count"] for row in facts["shorter_side"]}
    yield _shares(f"{title}: shorter side", "Pixels", bins, facts["count"], "")


def _bin(start: int, below: int | None) -> str:
    return f"{start} and more" if below is None else f"{start} to {below - 1}"


def _captions(captions: Sequence[Facts], looked: str) -> Iterator[Table]:
    rows = [
        (
            row["field"],
            formats.count(row["texts"]),
            formats.count(row["missing"]),
            formats.share(row["empty_share"]),
            formats.share(row["repeated_share"]),
        )
        for row in captions
    ]
    head = ("Field", "Texts", "Samples without", "Empty", "Repeated")
    yield Table("Texts", head, rows, looked)
    lengths = [
        (row["field"], unit, *_quantiles(row[unit], _number))
        for row in captions
        for unit in ("characters", "words")
        if row[unit]
    ]
    yield Table("Texts: length", ("Field", "In", *_HEADS), lengths, words=2)


def _documents(facts: Facts, looked: str) -> Table:
    rows = [
        (
            row["extension"],
            formats.NONE if row["key"] is None else row["key"],
            ", ".join(row["types"]),
            formats.count(row["samples"]),
        )
        for row in facts["keys"][:_LISTED]
    ]
    more = len(facts["keys"]) - len(rows) or facts["others"]
    note = f"{looked}; further keys are not shown" if more else looked
    return Table("JSON", ("Member", "Key", "Types", "Samples"), rows, note, words=3)


def _shares(title: str, head: str, counts: Mapping[str, int], of: int, note: str) -> Table:
    rows = [(kind, formats.count(n), formats.share(n / of)) for kind, n in counts.items()]
    bars = [n / of for n in counts.values()]
    return Table(title, (head, "Number", "Share"), rows, note, bars)


def _number(value: float | None) -> str:
    return formats.count(value) if isinstance(value, int) else formats.number(value)


def _quantiles(facts: Facts | None, show: Show) -> list[str]:
    return [show(facts[part]) if facts else formats.NONE for part in _QUANTILES]


def _range(facts: Facts, show: Show) -> str:
    return " · ".join(show(facts[part]) for part in ("min", "median", "max"))


def _first(shown: int, of: int) -> str:
    return f"the first {formats.count(shown)} of {formats.count(of)}" if shown < of else ""
