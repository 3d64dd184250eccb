from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from trainers.accelerator import use_accelerator

# A machine whose GPU torch sees; touching it fails, as torch was built without its library.
SEEN = """
import sys, torch
torch.cuda.is_available, torch.cuda.device_count = lambda: True, lambda: 1
import torch.distributed as dist
from pipelines.reader import Share
from cluster.prepare import train_tokenizer
from tests.trainers.conftest import builder_of, reader_of, small_recipe, tables_of
from trainers.job import Job
from trainers.model import build_objective
from trainers.worker import _engine
dist.init_process_group("gloo", f"file://{sys.argv[1]}/meet", rank=0, world_size=1)
recipe, device = small_recipe(), torch.device("cpu")
tokenizer = train_tokenizer(recipe, reader_of(recipe))
objective = build_objective(recipe, tokenizer)
job = Job(run="r", folder=".", recipe=recipe)
engine = _engine(objective, job, Share(32, 0, 1, 0, 1), device)
output = engine.step(builder_of(recipe, objective, tokenizer)(next(iter(tables_of(recipe)))), 0.1)
print(next(objective.parameters()).device, output.grad_norm)
"""


def test_a_run_on_cpus_leaves_a_gpu_that_is_there_alone(tmp_path: Path) -> None:
    plain = {name: value for name, value in os.environ.items() if name != "DS_ACCELERATOR"}
    plain |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    command = [sys.executable, "-c", SEEN, str(tmp_path)]
    done = subprocess.run(command, env=plain, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "cpu" in done.stdout.split()


@pytest.mark.parametrize(("device", "rank"), [("cuda:8", "8"), ("cuda", "2"), ("cpu", "2")])
def test_the_librarys_gpu_is_the_workers(
    monkeypatch: pytest.MonkeyPatch, device: str, rank: str
) -> None:
    """Of 16 GPUs that of local rank 2 is the ninth: Ray orders their numbers as texts."""
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setenv("DS_ACCELERATOR", "")
    use_accelerator(torch.device(device))
    assert os.environ["LOCAL_RANK"] == rank
    assert os.environ["DS_ACCELERATOR"] == device.partition(":")[0]
