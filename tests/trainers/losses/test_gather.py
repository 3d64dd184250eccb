"""One worker here; two workers are in ``test_deepspeed_engine.py``, against one."""

from __future__ import annotations

import torch

from trainers.losses.gather import gather


def test_one_workers_rows_are_all_rows_and_keep_their_gradient() -> None:
    rows = torch.ones(3, 2, requires_grad=True)
    gather(rows).sum().backward()
    assert torch.equal(rows.grad, torch.ones(3, 2))  # type: ignore[arg-type]
