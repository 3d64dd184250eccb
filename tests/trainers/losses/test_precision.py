from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from trainers.losses.contrastive import image_text, nt_xent
from trainers.losses.precision import product, wide
from trainers.losses.query_key import info_nce
from trainers.losses.redundancy import barlow_twins, vicreg
from trainers.losses.self_distillation import koleo

NUMBERS = torch.arange(12)
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "nt_xent": lambda a, b: nt_xent(a, b, 0.1, NUMBERS)[0],
    "image_text": lambda a, b: image_text(a, b, torch.tensor([20.0]), NUMBERS, NUMBERS)[0],
    "info_nce": lambda a, b: info_nce(a, b, 0.1, NUMBERS)[0],
    "barlow_twins": lambda a, b: barlow_twins(a, b, 0.1)[0],
    "vicreg": lambda a, b: vicreg(a, b, (25.0, 25.0, 1.0))[0],
    "koleo": lambda a, b: koleo(a) + koleo(b),
}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_only_formats_below_single_precision_change(
    given: torch.dtype, expected: torch.dtype
) -> None:
    assert wide(torch.ones(2, dtype=given)).dtype == expected


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_are_not_rounded_by_autocast(name: str, dtype: torch.dtype) -> None:
    random = torch.Generator().manual_seed(0)
    drawn = torch.randn(2, 12, 6, generator=random).to(dtype)
    results = []
    for enabled in (False, True):
        # What projections have under autocast is given to both alike.
        a, b = (rows.clone().requires_grad_() for rows in drawn)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = LOSSES[name](a, b)
        results.append((loss, *torch.autograd.grad(loss, (a, b))))
    exact, found = results
    assert found[0].dtype == torch.float32
    assert all(torch.equal(one, other) for one, other in zip(found, exact, strict=True))


def test_products_are_of_single_precision_at_least() -> None:
    a, b = torch.rand(2, 5, 5, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(product(a, b), product(a.double(), b.double()).float())
        assert product(a.bfloat16(), b.bfloat16()).dtype == torch.float32
        assert product(a.double(), b.double()).dtype == torch.float64
