from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster import evaluation_worker
from trainers import on_device
from trainers.core.evaluation import EvaluationRequest, EvaluationResult
from trainers.requests import done, file_result

CPU = torch.device("cpu")
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
    monkeypatch.setattr(evaluation_worker, "open_commit", lambda *_: None)
    monkeypatch.setattr(on_device, "load_model", lambda *_: None)
    monkeypatch.setattr(evaluation_worker, "read_request", lambda _: request)
    place = evaluation_worker if broken == "open_commit" else on_device
    monkeypatch.setattr(place, broken, fail)
    monkeypatch.setattr(sys, "argv", ["evaluation_worker", "request.json"])
    monkeypatch.setattr(evaluation_worker, "yield_to_training", lambda _: None)
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)
    monkeypatch.chdir(tmp_path)
    assert evaluation_worker.main() == 1
    log = capsys.readouterr().err
    assert "Traceback" in log
    assert log.splitlines()[-1].endswith("RuntimeError: 401 for https://***@host/x?sig=***")
    assert not any(secret in log for secret in ("hunter22", "AbCdEf"))


def test_what_is_filed_is_not_run_again_and_what_breaks_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def result(name: str) -> EvaluationResult:
        return EvaluationResult(
            evaluation="zero_shot", dataset=name, samples=8, checkpoint="c", digest="d",
            status="failed", seconds=1.0, error="none",
        )  # fmt: skip

    ran: list[str] = []
    opened: list[Any] = []

    def evaluate(model: object, commit: object, config: Any, given: object) -> EvaluationResult:
        opened.append(given)
        assert (model, commit) == ("the model", "the commit")
        ran.append(config.name)
        if config.name == "broken":
            raise RuntimeError(FAULT)
        return result(config.name)

    names = ("filed", "broken", "new")
    asked = tuple({"kind": "zero_shot", "name": name, "data": "x.tar"} for name in names)
    request = EvaluationRequest(
        run=str(tmp_path), folder="/", checkpoint="c", digest="d", samples=8, evaluations=asked
    )
    monkeypatch.setattr(evaluation_worker, "open_commit", lambda _: "the commit")

    def load_model(commit: object, device: object, kept: str | None) -> str:
        assert kept == request.run
        return "the model"

    monkeypatch.setattr(on_device, "load_model", load_model)
    monkeypatch.setattr(on_device, "evaluate", evaluate)
    file_result(request.run, result("filed"))
    (line,) = evaluation_worker.run_request(request, CPU)
    assert len(opened) == 2
    assert opened[0] is opened[1]
    assert opened[0]._fallback == request.run
    assert line.startswith("zero_shot broken: RuntimeError: 401 for ")
    assert ran == ["broken", "new"]
    assert done(request) == {("zero_shot", "filed"), ("zero_shot", "new")}
    log = capsys.readouterr().err
    assert "Traceback" in log
    assert not any(secret in log for secret in ("hunter22", "AbCdEf"))
    # Another try runs what broke, and nothing else.
    evaluation_worker.run_request(request, CPU)
    assert ran == ["broken", "new", "broken"]


@pytest.mark.parametrize(
    ("kind", "there", "expected"),
    [("cpu", True, "cpu"), ("cuda", False, "cpu"), ("cuda", True, "cuda:3")],
)
def test_a_profile_for_cpus_leaves_gpus_alone_and_jobs_share_them_out(
    monkeypatch: pytest.MonkeyPatch, kind: str, there: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    assert evaluation_worker.device_of(kind, 8 * 1000 + 3) == torch.device(expected)
