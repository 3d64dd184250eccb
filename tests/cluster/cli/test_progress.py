from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.cli._progress import describe, last_line, say


def test_a_line_says_where_the_run_stands() -> None:
    line = {"samples": 50, "samples_per_second": 10.0, "loss": 1.5, "data_wait_share": 0.013}
    words = "50/1,000 samples, 10/s, loss 1.500, data wait 1.3 %, 1:35 left"
    assert describe(line, 1000) == words


def test_the_newest_line_is_read(tmp_path: Path) -> None:
    assert last_line(str(tmp_path)) is None
    lines = [{"samples": 8}, {"samples": 16}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    assert last_line(str(tmp_path)) == {"samples": 16}
    (tmp_path / "metrics.jsonl").write_text('{"samples": 8}\n{"sam')
    assert last_line(str(tmp_path)) is None


def test_lines_are_told_without_credentials(capsys: pytest.CaptureFixture[str]) -> None:
    say("connecting to http://me:hunter22@head:8265")
    assert capsys.readouterr().err == "connecting to http://***@head:8265\n"
