from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from pipelines.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for number in range(12):
    block = b"x" * (48 << 20)  # over the largest threshold that glibc finds by itself
    if number == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, mode], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_large_blocks_are_not_mapped_anew() -> None:
    assert faults("keep") < faults("default") / 10
