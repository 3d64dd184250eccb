from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from pipelines.memory import ONE_ARENA

SCRIPT = """
import resource, sys, threading
from pipelines.memory import keep_freed_memory

def work():
    if sys.argv[1] == "keep":
        assert keep_freed_memory()
    for number in range(12):
        block = b"x" * (80 << 20)  # over the largest threshold, and the largest arena of a thread
        if number == 2:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        del block
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

if sys.argv[2] == "main":
    work()
else:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
"""


def faults(mode: str, thread: str = "main", environment: Mapping[str, str] | None = None) -> int:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, mode, thread],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **(environment or {})},
    )
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_large_blocks_are_not_mapped_anew() -> None:
    assert faults("keep") < faults("default") / 10


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_a_thread_keeps_them_too_where_it_has_no_arena_of_its_own() -> None:
    assert faults("keep", "thread") > 10_000  # what the environment is for
    assert faults("keep", "thread", ONE_ARENA) < faults("keep", "thread") / 10
