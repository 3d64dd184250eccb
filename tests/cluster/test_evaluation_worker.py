from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cluster import evaluation_worker
from trainers.core.evaluation import EvaluationRequest

FAULT = "401 for https://me:hunter22@host/x?sig=AbCdEf"
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


@pytest.mark.parametrize("broken", ["evaluate", "open_commit"])
def test_a_jobs_log_holds_no_credentials(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(FAULT)

    evaluation = {"kind": "zero_shot", "name": "a", "data": "x.tar"}
    request = EvaluationRequest(
        run=str(tmp_path), folder=str(tmp_path), checkpoint="c", digest="d", samples=8,
        evaluations=(evaluation,),
    )  # fmt: skip
    for name in ("open_commit", "load_model"):
        monkeypatch.setattr(evaluation_worker, name, lambda *_: None)
    monkeypatch.setattr(evaluation_worker, "read_request", lambda _: request)
    monkeypatch.setattr(evaluation_worker, broken, fail)
    monkeypatch.setattr(sys, "argv", ["evaluation_worker", "request.json"])
    monkeypatch.setattr(evaluation_worker, "yield_to_training", lambda _: None)
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)
    monkeypatch.chdir(tmp_path)
    assert evaluation_worker.main() == 1
    log = capsys.readouterr().err
    assert "Traceback" in log
    assert log.splitlines()[-1].endswith("RuntimeError: 401 for https://***@host/x?sig=***")
    assert not any(secret in log for secret in ("hunter22", "AbCdEf"))
