"""Text fields of a sample: a whole member, or a value inside a JSON member."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MAX_BYTES = 1 << 20


def decode_text(members: Mapping[str, bytes], field: str) -> str:
    """Read a text field.

    Args:
        members: Bytes by extension.
        field: ``txt`` for a whole member, ``json.label`` for a value in one;
            a list becomes its items joined by ", ".

    Raises:
        ValueError: The member or value is missing, too long, or not text.
    """
    extension, _, path = field.partition(".")
    data = members.get(extension)
    if data is None:
        raise ValueError(f"no member '{extension}', has {', '.join(sorted(members)) or 'none'}")
    if len(data) > MAX_BYTES:
        raise ValueError(f"member '{extension}' has {len(data)} bytes, too many for a text")
    try:
        text = data.decode("utf-8")
        text = _flat(_inside(json.loads(text), path)) if path else text.strip()
        text.encode("utf-8")  # JSON may hold half a surrogate pair, which no column can
        return text
    except (UnicodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"member '{extension}' is not valid ({type(error).__name__})") from None
    except KeyError:
        raise ValueError(f"member '{extension}' has no value '{path}'") from None


def _inside(value: Any, path: str) -> Any:
    for part in path.split("."):
        if not isinstance(value, dict):
            raise KeyError(part)
        value = value[part]
    return value


def _flat(value: Any) -> str:
    if value is None or isinstance(value, dict):
        raise KeyError
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
