from __future__ import annotations

import pickle
import struct

import pytest

from pipelines.decode.errors import SampleError, reading


@pytest.mark.parametrize(
    "error", [struct.error("x"), ValueError("a\nb"), KeyError(1), MemoryError(), EOFError()]
)
def test_whatever_a_decoder_raises_is_a_sample_error(error):
    with (
        pytest.raises(SampleError, match=f"^not a readable film \\({type(error).__name__}\\)$"),
        reading("film"),
    ):
        raise error


def test_a_reason_that_was_given_is_kept():
    with pytest.raises(SampleError, match=r"^no track$"), reading("film"):
        raise SampleError("no track")


def test_what_stops_a_program_is_let_through():
    with pytest.raises(KeyboardInterrupt), reading("film"):
        raise KeyboardInterrupt


def test_a_reason_is_one_line_and_pickles():
    error = SampleError("no member 'a\nb'")
    assert str(error) == str(pickle.loads(pickle.dumps(error))) == "no member 'a b'"
