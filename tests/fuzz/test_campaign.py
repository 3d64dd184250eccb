"""Ten thousand damaged tars: no crash, no hang, bounded memory, nothing run, nothing wrong read."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.fuzz.campaign import MEMORY
from tests.fuzz.mutations import MUTATIONS, trap

PROCESSES = 2


@pytest.mark.timeout(600)
@pytest.mark.parametrize("tars", [2000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_damaged_tars_are_read_as_far_as_they_can_be(tmp_path: Path, tars: int) -> None:
    each = tars // PROCESSES
    running = []
    for number in range(PROCESSES):
        folder = tmp_path / str(number)
        folder.mkdir()
        command = [sys.executable, "-m", "tests.fuzz.campaign"]
        command += [str(folder), str(number * each), str(each)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen(command, **pipes))  # type: ignore[call-overload]
    counts: Counter[str] = Counter()
    for number, process in enumerate(running):
        out, errors = process.communicate()
        assert process.returncode == 0, errors[-3000:]
        counts.update(json.loads(out))
        # Nothing but the tar itself: no trap was sprung, no name became a file.
        assert [file.name for file in (tmp_path / str(number)).iterdir()] == ["shard.tar"]
    assert counts["tars"] == tars
    assert counts["readable"] + counts["unreadable"] == counts["samples"]
    assert all(counts[mutation.__name__] > tars / len(MUTATIONS) / 2 for mutation in MUTATIONS)
    assert min(counts["untouched"], counts["unreadable"], counts["faults of shards"]) > tars / 3
    assert counts["peak_megabytes"] / PROCESSES < MEMORY / 1e6
    assert not Path("/tmp/climbed.txt").exists()


def test_a_trap_would_be_noticed(tmp_path: Path) -> None:
    import pickle

    pickle.loads(trap(tmp_path / "executed"))
    assert (tmp_path / "executed").read_text() == "executed"
