from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import os
from pathlib import Path
from cluster.evaluation_worker import yield_to_training
yield_to_training(7)
group = Path("/proc/self/autogroup")
print(os.nice(0), group.read_text().split()[-1] if group.exists() else 7)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="sessions are grouped on Linux only")
def test_a_job_and_its_session_get_out_of_trainings_way() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        check=True,
        start_new_session=True,
    )
    niceness, group = (int(word) for word in done.stdout.split())
    assert niceness >= 7
    assert group == 7
