"""Entry point of an evaluation job: ``python -m cluster.evaluation_worker REQUEST``."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback
from pathlib import Path

import torch

from pipelines.shards import storage
from trainers.checkpoint import open_commit
from trainers.core.evaluation import EvaluationRequest
from trainers.on_device import OnDevice
from trainers.recipe import EVALUATIONS
from trainers.requests import done, file_result, read_request


def run_request(request: EvaluationRequest, device: torch.device) -> list[str]:
    """Run what a request asks for and nobody has filed yet.

    Args:
        request: What is to be evaluated, and how.
        device: Where to compute; on the CPU what finds no room on a GPU.

    Returns:
        One line for every evaluation that broke and may be tried again.
    """
    commit = open_commit(request.checkpoint)
    judge = OnDevice(commit, device, request.run)
    have = done(request)
    broken = []
    for data in request.evaluations:
        config = EVALUATIONS.parse(data)
        name = (EVALUATIONS.kind_of(config), str(getattr(config, "name", "")))
        if name in have:
            continue
        try:
            file_result(request.run, judge.evaluated(config))
        except Exception as error:  # one evaluation's fault must not cost the others
            _tell(traceback.format_exc())
            broken.append(f"{name[0]} {name[1]}: {type(error).__name__}: {error}")
    return broken


def device_of(kind: str, process: int) -> torch.device:
    """The device of a job: of several GPUs that it may use, another one for each process."""
    if kind != "cuda" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", process % torch.cuda.device_count())


def yield_to_training(niceness: int) -> None:
    """Lower this process's priority, so that training on the same machine goes first.

    Linux may share cores by session before it looks at niceness, and a job is
    a session of its own: then the session has to be told as well.
    """
    os.nice(niceness)
    with contextlib.suppress(OSError):  # no such file where sessions are not grouped
        Path("/proc/self/autogroup").write_text(str(niceness), encoding="ascii")


def main() -> int:
    """Run a request file; exit status 1 asks for another try."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("request", help="URL of the request file")
    parser.add_argument("--nice", type=int, default=0, help="added to the process's niceness")
    parser.add_argument("--outage", type=float, default=0.0, help="seconds a store may be down")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where to compute")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    arguments = parser.parse_args()
    yield_to_training(arguments.nice)
    storage.persist(arguments.outage)
    torch.set_num_threads(arguments.threads)
    request = read_request(arguments.request)
    with contextlib.suppress(OSError):  # on another machine paths are absolute or URLs
        os.chdir(request.folder)
    try:
        broken = run_request(request, device_of(arguments.device, os.getpid()))
    except Exception:  # as Python would tell it, but for credentials
        broken = [traceback.format_exc()]
    for line in broken:
        _tell(line)
    return 1 if broken else 0


def _tell(text: str) -> None:
    """Write to the job's log, the last line of which a result may repeat."""
    print(storage.redact(text.rstrip()), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
