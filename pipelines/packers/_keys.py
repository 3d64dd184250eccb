"""Names of files to keys of samples; different names have different keys."""

from __future__ import annotations

import re
import unicodedata


def safe_key(name: str) -> str:
    """Turn a relative path without its extension into a key that WebDataset reads whole.

    What a key cannot hold is written as in URLs, byte by byte: ``%2E`` for a
    dot in the last part, control characters, bytes that are not UTF-8, and
    the percent sign itself.

    >>> safe_key("birds/st. kilda/wren v1.2")
    'birds/st. kilda/wren v1%2E2'
    """
    folder, slash, last = name.rpartition("/")
    key = "".join(map(_safe, folder + slash)) + "".join(map(_safe, last)).replace(".", "%2E")
    return re.sub(r"^_(?=_[^/]*__/)", "%5F", key)  # readers skip a first folder named __x__


def _safe(letter: str) -> str:
    if letter != "%" and unicodedata.category(letter) not in ("Cc", "Cs"):
        return letter
    return "".join(f"%{byte:02X}" for byte in letter.encode("utf-8", "surrogateescape"))


def printable(name: str) -> str:
    r"""A name for messages: what a terminal would act on or could not show is escaped.

    >>> printable("a\x1b[31m")
    'a\\x1b[31m'
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in name
    )
