from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("pipelines.reader", ["torch", "ray", "transformers", "pandas", "tokenizers"]),
        ("pipelines.sources.webdataset", ["torch", "ray", "transformers", "pandas", "cv2"]),
        ("pipelines.order", ["torch", "ray", "pyarrow"]),
        ("pipelines.views", ["ray", "deepspeed"]),
        ("pipelines.augment", ["ray", "deepspeed"]),
    ],
)
def test_a_process_that_only_reads_starts_light(module, absent):
    code = f"import sys, {module}; print(*[m for m in {absent!r} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert found.stdout.split() == []
