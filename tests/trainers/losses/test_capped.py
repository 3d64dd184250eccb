from __future__ import annotations

import math
import threading

import pytest
import torch

from trainers.core.collective import alone
from trainers.losses import capped
from trainers.losses.capped import capped_exp


def leaf(*values: float) -> torch.Tensor:
    return torch.tensor(values, requires_grad=True)


def test_up_to_the_largest_value_it_is_the_exponential() -> None:
    logs, same = leaf(-3.0, 0.0, 2.0, 4.6), leaf(-3.0, 0.0, 2.0, 4.6)
    found, expected = capped_exp(logs, 100.0), same.exp().clamp(max=100.0)
    assert torch.equal(found, expected)
    asked = torch.tensor([1.0, -2.0, 3.0, -4.0])
    found.backward(asked)
    expected.backward(asked)
    assert logs.grad is not None
    assert same.grad is not None
    assert torch.equal(logs.grad, same.grad)


@pytest.mark.parametrize("log", [4.7, 20.0, 200.0])
@pytest.mark.parametrize(("asked", "expected"), [(0.5, 50.0), (-0.5, 0.0)])
def test_beyond_it_only_what_leads_back_has_a_gradient(
    log: float, asked: float, expected: float
) -> None:
    logs = leaf(log)
    found = capped_exp(logs, 100.0)
    assert found.item() == 100.0
    found.backward(torch.tensor([asked]))
    assert logs.grad is not None
    assert logs.grad.item() == expected


@pytest.mark.parametrize(("other", "expected"), [(-0.4, 50.0), (-0.6, 0.0)])
def test_what_leads_back_is_what_all_workers_want_together(
    monkeypatch: pytest.MonkeyPatch, other: float, expected: float
) -> None:
    monkeypatch.setattr(
        capped, "gather", lambda rows: torch.cat([rows, torch.full_like(rows, other)])
    )
    monkeypatch.setattr(capped, "world", lambda: (0, 2))
    logs = leaf(6.0)
    capped_exp(logs, 100.0).backward(torch.tensor([0.5]))
    assert logs.grad is not None
    assert logs.grad.item() == expected


def test_a_gradient_that_is_no_number_is_not_hidden() -> None:
    logs = leaf(6.0)
    capped_exp(logs, 100.0).backward(torch.tensor([math.nan]))
    assert logs.grad is not None
    assert logs.grad.isnan().all()


def test_a_backward_pass_in_a_thread_of_a_devices_is_alone_where_its_forward_pass_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(capped, "gather", None)
    logs = leaf(5.0)
    with alone():
        found = capped_exp(logs, 100.0)
    thread = threading.Thread(target=found.backward, args=(torch.ones(1),))
    thread.start()
    thread.join()
    assert logs.grad is not None
    assert logs.grad.item() == 100.0
