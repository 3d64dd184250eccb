"""Statistics of captions, and of what JSON members hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.decode.text import decode_field, load_json
from pipelines.inspection.columns import NAMES, Column, Repeats, Tally, readable
from pipelines.inspection.trial import JSON, kind_of

_TYPES = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}


def text_fields(members: Mapping[str, bytes]) -> list[str]:
    """Fields of a sample that hold captions by their names, as a recipe would write them."""
    found = ["txt"] if "txt" in members else []
    document = parsed(members, "json")
    if isinstance(document, dict):
        names = {"caption": "json.caption", "captions": "json.captions[]"}
        found += [field for name, field in names.items() if name in document]
    return found


def read_texts(members: Mapping[str, bytes], field: str) -> list[str] | None:
    """The texts of a field; None where the sample has no such field or it is no text."""
    try:
        value = decode_field(members, field)
    except ValueError:
        return None
    return [value] if isinstance(value, str) else value


def parsed(members: Mapping[str, bytes], extension: str) -> Any:
    """A JSON member, or None where it is missing or no JSON."""
    try:
        return load_json(members, extension)
    except ValueError:
        return None


class Captions:
    """Lengths, and how many are empty or repeated, by text field.

    Args:
        fields: Which ones; none for those that ``text_fields`` finds.
    """

    def __init__(self, fields: Sequence[str]):
        self._asked = list(fields)
        self._found: dict[str, _Field] = {field: _Field() for field in fields}
        self._samples = 0

    def add(self, members: Mapping[str, bytes]) -> None:
        """Add a sample."""
        self._samples += 1
        for field in self._asked or text_fields(members):
            texts = read_texts(members, field)
            if texts is not None:
                self._found.setdefault(field, _Field()).add(texts)

    def summary(self) -> list[dict[str, Any]]:
        """Facts of each field; ``missing`` counts samples without it."""
        return [
            {"field": name, "missing": self._samples - field.samples, **field.summary()}
            for name, field in self._found.items()
        ]


class _Field:
    def __init__(self) -> None:
        self.samples = self._texts = self._empty = 0
        self._characters, self._words, self._repeats = Column(), Column(), Repeats()

    def add(self, texts: Sequence[str]) -> None:
        self.samples += 1
        for text in texts:
            self._texts += 1
            self._empty += not text
            self._characters.add(len(text))
            self._words.add(len(text.split()))
            self._repeats.add(text)

    def summary(self) -> dict[str, Any]:
        return {
            "samples": self.samples,
            "texts": self._texts,
            "empty": self._empty,
            "empty_share": self._empty / self._texts if self._texts else 0.0,
            "repeated_share": self._repeats.share(),
            "characters": self._characters.summary(),
            "words": self._words.summary(),
        }


class Documents:
    """Top-level keys of JSON members, with their types."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str | None], Tally] = {}
        self._others = 0

    def add(self, members: Mapping[str, bytes]) -> None:
        """Add the JSON members of a sample."""
        for extension in members:
            document = parsed(members, extension) if kind_of(extension) == JSON else None
            if isinstance(document, dict):
                for key, value in document.items():
                    self._count(extension, readable(key), value)
            elif document is not None:
                self._count(extension, None, document)

    def _count(self, extension: str, key: str | None, value: Any) -> None:
        place = extension, key
        if place in self._keys or len(self._keys) < NAMES:
            self._keys.setdefault(place, Tally()).add(_TYPES[type(value)])
        else:
            self._others += 1

    def summary(self) -> dict[str, Any]:
        """``keys`` by extension, with None as the key of what is no object; ``others``."""
        keys = [
            {
                "extension": readable(extension),
                "key": key,
                "samples": sum(tally.summary().values()),
                "types": tally.summary(),
            }
            for (extension, key), tally in self._keys.items()
        ]
        return {"keys": keys, "others": self._others}
