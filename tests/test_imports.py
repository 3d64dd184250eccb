"""What a process that does one thing need not wait for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("pipelines.reader", ["torch", "ray", "transformers", "pandas", "tokenizers"]),
        ("pipelines.sources.webdataset", ["torch", "ray", "transformers", "pandas", "cv2"]),
        ("pipelines.order", ["torch", "ray", "pyarrow"]),
        ("pipelines.views", ["ray", "deepspeed"]),
        ("pipelines.augment", ["ray", "deepspeed"]),
        # What the driver sends to workers, and what a recipe is checked by.
        ("trainers.worker", ["deepspeed", "transformers", "mlflow"]),
        ("trainers.recipe, cluster.profile", ["ray", "deepspeed", "transformers", "matplotlib"]),
        ("trainers.objectives.mae, trainers.objectives.clip", ["deepspeed", "transformers"]),
        ("trainers.deepspeed_engine", ["mlflow", "transformers"]),
    ],
)
def test_it_is_imported_without_what_it_does_not_need(module, absent):
    code = f"import sys, {module}; print(*[m for m in {absent!r} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert found.stdout.split() == []


def test_help_and_mistakes_in_options_wait_for_no_library():
    code = """
import sys
from cluster.cli._main import _register
_register()
heavy = ["torch", "ray", "numpy", "pyarrow", "pandas", "matplotlib", "transformers", "deepspeed"]
print(*[m for m in heavy if m in sys.modules])
"""
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert found.stdout.split() == []


ENGINE = ["trainers/deepspeed_engine.py", "trainers/deepspeed_state.py"]
GRAPHS = ["cluster/bench/loader.py", "pipelines/stream.py"]
JOBS = ["cluster/ray_jobs.py", "cluster/submit.py"]


@pytest.mark.parametrize(
    ("marks", "places"),
    [
        (("import deepspeed", "from deepspeed"), ENGINE),
        (("ray.data.read_", "ray.data.from_", "ray.data.range"), GRAPHS),
        ((".submit_job(",), JOBS),
    ],
)
def test_what_one_place_does_no_other_does(marks, places):
    """Rules on who may import whom that are about uses, too."""
    root = Path(__file__).parents[1]
    packages = [root / name for name in ("pipelines", "trainers", "cluster")]
    files = [file for package in packages for file in package.rglob("*.py")]
    found = [
        path.relative_to(root).as_posix()
        for path in files
        if any(mark in path.read_text() for mark in marks)
    ]
    assert sorted(found) == places
