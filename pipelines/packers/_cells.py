"""Cells of a table to members of a sample."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from pipelines.core import StorageError
from pipelines.packers._beside import TEXT_BYTES
from pipelines.packers._contract import Unreadable
from pipelines.packers._media import IMAGE_BYTES, image_extension, read_media
from pipelines.packers._tree import local_fault, special
from pipelines.shards.storage import refuse_secrets

_URL = re.compile(r"(https?|s3|gs|gcs|az|abfss?|hf|file|memory)://")


def column_fault(role: str, kind: pa.DataType) -> str:
    """Say why a column cannot become what it is wanted for, or return an empty string.

    Args:
        role: ``image``, ``caption``, ``key`` or ``json``.
        kind: Type of the column.
    """
    kind = _plain(kind)
    if role == "image":
        good = _is_text(kind) or _is_bytes(kind) or _is_picture(kind)
        return "" if good else f"holds {kind}, neither images nor paths"
    if role == "caption":
        good = _is_text(kind) or (_is_list(kind) and _is_text(_plain(kind.value_type)))
        return "" if good else f"holds {kind}, no captions"
    if role == "key":
        good = _is_text(kind) or pa.types.is_integer(kind)
        return "" if good else f"holds {kind}, no keys"
    return "holds bytes, which JSON cannot; --set drop= leaves it out" if _has_bytes(kind) else ""


def read_image(cell: Any, table: str) -> tuple[str, bytes]:
    """Read the image that a cell holds or names.

    Args:
        cell: Bytes, a path, or both in a mapping.
        table: URL of the table, whose folder paths are relative to.

    Returns:
        The extension of its member, and its bytes.

    Raises:
        Unreadable: It is no image, or not there, or the path is not one that may be followed.
    """
    if isinstance(cell, Mapping):
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, bytes):
        if len(cell) > IMAGE_BYTES:
            raise Unreadable(f"larger than {IMAGE_BYTES >> 20} MiB")
        return image_extension(cell[:64]), cell
    if not cell:
        raise Unreadable("no image in its row")
    return read_media(_place(str(cell), table), image_extension, IMAGE_BYTES)


def texts_of(cell: str | list[str | None] | None) -> list[str]:
    """Texts of a caption's cell, without empty ones."""
    texts = cell if isinstance(cell, list) else [cell]
    return [text for text in texts if text and not text.isspace()]


def to_json(row: Mapping[str, Any]) -> str:
    """Cells as JSON: what is no number is null, dates and the like are text."""
    return json.dumps(_finite(row), ensure_ascii=False, allow_nan=False, default=str)


def bounded(member: str, text: str) -> bytes:
    """Encode a text, unless it is longer than training reads.

    Raises:
        Unreadable: It is.
    """
    data = text.encode("utf-8")
    if len(data) > TEXT_BYTES:
        raise Unreadable(f"its {member} is larger than {TEXT_BYTES >> 20} MiB")
    return data


def _place(path: str, table: str) -> str:
    if "::" in path or ("://" in path and not _URL.match(path)):
        raise Unreadable("a URL of an unknown sort")
    if "\0" in path:
        raise Unreadable("no path at all")
    if "://" in path:
        # One cell's; a whole table's, such as a package that is missing, ends the packing.
        try:
            refuse_secrets(path)
        except StorageError:
            raise Unreadable("a URL that holds a credential") from None
        if fault := special(path):
            raise Unreadable(fault)
        return path
    if path.startswith("/"):
        raise Unreadable("an absolute path; it must be relative to the table, or a file:// URL")
    if ".." in path.split("/"):
        raise Unreadable("a path that leaves the table's folder")
    head, slash, _ = table.rpartition("/")
    folder = head + slash or "./"
    if fault := local_fault(folder, folder + path):
        raise Unreadable(fault)
    return folder + path


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(kind: Any) -> Any:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_text(kind: Any) -> bool:
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_bytes(kind: Any) -> bool:
    types = pa.types
    plain = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    return bool(plain or types.is_fixed_size_binary(kind))


def _is_list(kind: Any) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _is_picture(kind: Any) -> bool:
    return bool(pa.types.is_struct(kind)) and any(field.name in ("bytes", "path") for field in kind)


def _has_bytes(kind: Any) -> bool:
    kind = _plain(kind)
    inner = [kind.field(place) for place in range(kind.num_fields)]
    return _is_bytes(kind) or any(_has_bytes(field.type) for field in inner)
