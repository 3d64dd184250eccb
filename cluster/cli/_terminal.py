"""What a terminal may show of texts that others wrote."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_KEPT = "\u200d\u202f\ufe0f"  # what joins emoji, and the narrow space before units


def printable(text: str) -> str:
    r"""A line as a terminal may show it: without what would move the cursor, or end the line.

    >>> printable("a\x1b[2Jb\tc\x1b[31md")
    'a�[2Jb      cd'
    """
    plain = _COLOUR.sub("", text).expandtabs()
    return "".join(c if c.isprintable() or c in _KEPT else "\ufffd" for c in plain)


def tell(line: str) -> None:
    """Print a line that holds what others wrote."""
    print(printable(line))


@contextmanager
def result_alone() -> Iterator[None]:
    """Keep the standard output for a command's result.

    Ray tells there of workers that died, from a thread of its own, for as long as it is connected.
    """
    with redirect_stdout(sys.stderr):
        yield
