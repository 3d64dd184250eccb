"""Two workers are in the tests of the objectives, against one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainers.heads import GlobalNorm, Prototypes, mlp


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_head_has_as_many_linear_layers_as_asked_for(layers: int) -> None:
    head = mlp(5, 7, 3, layers)
    widths = [(m.in_features, m.out_features) for m in head if isinstance(m, nn.Linear)]
    expected = [(5, 3)] if layers == 1 else [(5, 7), *[(7, 7)] * (layers - 2), (7, 3)]
    assert widths == expected
    assert head(torch.rand(2, 5)).shape == (2, 3)


def test_on_one_worker_the_norm_is_batch_normalisation() -> None:
    rows = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    other = rows.detach().clone().requires_grad_()
    norm, expected = GlobalNorm(4).double(), nn.BatchNorm1d(4).double()
    with torch.no_grad():
        for module in (norm, expected):
            module.weight.copy_(torch.arange(1.0, 5))
            module.bias.copy_(torch.arange(4.0))
    found, reference = norm(rows), expected(other)
    torch.testing.assert_close(found, reference)
    found.square().sum().backward()
    reference.square().sum().backward()
    torch.testing.assert_close(rows.grad, other.grad)
    torch.testing.assert_close(norm.weight.grad, expected.weight.grad)


def test_the_norm_is_the_same_in_evaluation() -> None:
    norm, rows = GlobalNorm(4), torch.randn(6, 4)
    assert torch.equal(norm(rows), norm.eval()(rows))


def test_prototypes_are_of_unit_length_whatever_their_weights_are() -> None:
    prototypes = Prototypes(4, 6)
    with torch.no_grad():
        prototypes.weight *= torch.tensor([1e-3, 1, 2, 5, 100, 1e4])[:, None]
    embeddings = 10 * torch.randn(3, 4)
    cosines = torch.cosine_similarity(embeddings[:, None], prototypes.weight[None], dim=2)
    torch.testing.assert_close(prototypes(embeddings), cosines)


def test_the_gradient_turns_a_prototype_and_does_not_stretch_it() -> None:
    prototypes = Prototypes(4, 6)
    prototypes(torch.randn(3, 4)).square().sum().backward()
    along = (prototypes.weight.grad * prototypes.weight).sum(1)  # type: ignore[operator]
    torch.testing.assert_close(along, torch.zeros(6), atol=1e-5, rtol=0)
