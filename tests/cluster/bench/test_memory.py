from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.bench.memory import epoch, family_of, held, watching
from cluster.bench.photographs import write_photographs
from pipelines.reader_config import ReaderConfig

HOLD = "import sys, time; block = bytearray(b'x' * (64 << 20)); print('held', flush=True); input()"


def test_a_childs_memory_is_seen() -> None:
    with watching() as seen:
        time.sleep(0.3)
        before = max(seen)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen([sys.executable, "-c", HOLD], **pipes) as child:  # type: ignore[call-overload]
            child.stdout.readline()
            assert child.pid in family_of(os.getpid())
            assert held({child.pid}) > 64 << 20
            time.sleep(0.5)
            child.communicate("\n")
    assert max(seen) - before > 60 << 20
    assert held({child.pid}) == 0


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_an_epoch_is_streamed_and_weighed(tmp_path: Path) -> None:
    found = epoch(write_photographs(tmp_path, 70, distinct=4), 32, 16, ReaderConfig())
    assert found["samples"] == 64
    assert found["peak_megabytes"] >= found["median_megabytes"] > 50
