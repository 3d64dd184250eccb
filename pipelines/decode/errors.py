"""The one error of decoding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class SampleError(ValueError):
    """A sample that cannot be decoded: it goes to the quarantine with this reason, one line."""

    def __init__(self, reason: str):
        super().__init__(" ".join(reason.split()))  # names in it may hold line breaks


@contextmanager
def reading(kind: str) -> Iterator[None]:
    """Turn whatever a decoder raises into a ``SampleError``.

    Args:
        kind: What is read, for the message.
    """
    try:
        yield
    except SampleError:
        raise
    except Exception as error:  # damaged bytes raise anything: struct.error, OverflowError, ...
        raise SampleError(f"not a readable {kind} ({type(error).__name__})") from None
