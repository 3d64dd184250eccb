from __future__ import annotations

import threading

import pytest

from cluster.cli import _main, index, verify
from cluster.cli._progress import say
from cluster.cli._terminal import printable, result_alone
from pipelines.core import DataError

EVIL = "\x1b]52;c;ZXZpbA==\x07k\x1b[2J\neverything is well"


def test_colours_go_and_what_moves_the_cursor_is_shown_as_such() -> None:
    assert printable("\x1b[31mred\x1b[0m\té\u200d") == "red     é\u200d"
    assert printable("a\x1b[2Jb\nc\x00") == "a\ufffd[2Jb\ufffdc\ufffd"


def test_errors_are_one_line_that_moves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _main._end(f"eagleray: {DataError(EVIL)}", debug=False)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "\x1b" not in said


def test_what_a_data_set_says_moves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    fault = {"shard": "a.tar", "key": EVIL, "reason": EVIL}
    counts = dict.fromkeys(("unreadable", "missing", "repeated", "misplaced"), 0)
    verify._show(
        {"damaged_shards": [fault], "faults": [fault], "delivered": 1, "samples": 1, "shards": 1}
        | {"exact": True, "keys": "0", "examples": [EVIL], **counts}
    )
    index._show(
        {"damaged": [fault], "samples": 1, "shards": 1, "bytes": 1, "scanned": 1, "seconds": 1.0}
        | {"skipped_members": 0, "kept": True, "digest": "0"}
    )
    say(EVIL)
    said = "".join(capsys.readouterr())
    assert "\x1b" not in said
    assert "\neverything" not in said


def test_what_others_print_meanwhile_is_not_in_the_result(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with result_alone():
        thread = threading.Thread(target=print, args=("(raylet) A worker died",))
        thread.start()
        thread.join()
    print("{}")
    assert capsys.readouterr() == ("{}\n", "(raylet) A worker died\n")
