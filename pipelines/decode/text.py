"""Text fields of a sample: a whole member, or a value inside a JSON member."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pipelines.decode.errors import SampleError

MAX_BYTES = 1 << 20


def decode_field(members: Mapping[str, bytes], field: str) -> str | list[str]:
    """Read a text field, or a list of them where its name ends in ``[]``.

    Raises:
        ValueError: As ``decode_text`` and ``decode_texts``.
    """
    if field.endswith("[]"):
        return decode_texts(members, field.removesuffix("[]"))
    return decode_text(members, field)


def decode_text(members: Mapping[str, bytes], field: str) -> str:
    """Read a text field.

    Args:
        members: Bytes by extension.
        field: ``txt`` for a whole member, ``json.label`` for a value in one;
            a list becomes its items joined by ", ".

    Raises:
        ValueError: The member or value is missing, too long, or not text.
    """
    with _reading(field):
        value = _value(members, field)
        return _legal(
            value.strip() if isinstance(value, str) and "." not in field else _flat(value)
        )


def decode_texts(members: Mapping[str, bytes], field: str) -> list[str]:
    """Read the texts of a field, without the empty ones.

    Args:
        members: Bytes by extension.
        field: ``txt`` for the lines of a member, ``json.captions`` for a list
            in one; a single value is a list of one.

    Raises:
        ValueError: As ``decode_text``, or there is no text.
    """
    with _reading(field):
        value = _value(members, field)
        if "." not in field:
            items = value.splitlines()
        else:
            items = [_flat(item) for item in (value if isinstance(value, list) else [value])]
        texts = [_legal(text) for item in items if (text := item.strip())]
    if not texts:
        raise ValueError(f"no text in '{field}'")
    return texts


def load_json(members: Mapping[str, bytes], extension: str) -> Any:
    """Parse a JSON member.

    Raises:
        ValueError: The member is missing, too long, or not JSON.
    """
    with _reading(extension):
        return json.loads(_member(members, extension))


def _member(members: Mapping[str, bytes], extension: str) -> str:
    data = members.get(extension)
    if data is None:
        raise SampleError(f"no member '{extension}', has {', '.join(sorted(members)) or 'none'}")
    if len(data) > MAX_BYTES:
        raise SampleError(f"member '{extension}' has {len(data)} bytes, too many for a text")
    return data.decode("utf-8-sig")  # some editors begin with a mark that is no part of the text


def _value(members: Mapping[str, bytes], field: str) -> Any:
    extension, _, path = field.partition(".")
    text = _member(members, extension)
    return _inside(json.loads(text), path) if path else text


@contextmanager
def _reading(field: str) -> Iterator[None]:
    extension, _, path = field.partition(".")
    try:
        yield
    except SampleError:
        raise
    except KeyError:
        raise SampleError(f"member '{extension}' has no value '{path}'") from None
    except (ValueError, RecursionError) as error:
        raise SampleError(f"member '{extension}' is not valid ({type(error).__name__})") from None


def _legal(text: str) -> str:
    text.encode("utf-8")  # JSON may hold half a surrogate pair, which no column can
    return text


def _inside(value: Any, path: str) -> Any:
    for part in path.split("."):
        if not isinstance(value, dict):
            raise KeyError(part)
        value = value[part]
    return value


def _flat(value: Any) -> str:
    if value is None or isinstance(value, dict):
        raise KeyError
    if isinstance(value, float) and not math.isfinite(value):  # what pandas writes for nothing
        raise KeyError
    return ", ".join(map(_flat, value)) if isinstance(value, list) else str(value)
