"""One contract over every tower found in the folder."""

from __future__ import annotations

import json

import pytest
import torch

from trainers.core.objective import Surroundings
from trainers.models import TOWERS

SMALL = {
    "vit": {"width": 24, "layers": 2, "heads": 2, "patch": 8},
    "text_transformer": {"width": 16, "layers": 1, "heads": 2},
}
AROUND = Surroundings(size=32, vocabulary=300, length=8)
every = pytest.mark.parametrize("kind", TOWERS.names())


def build(kind: str) -> torch.nn.Module:
    torch.manual_seed(0)
    tower: torch.nn.Module = TOWERS.build(
        TOWERS.parse({"kind": kind, **SMALL.get(kind, {})}), AROUND
    )
    return tower


def inputs(tower: torch.nn.Module) -> torch.Tensor:
    from inspect import signature

    if "tokens" in signature(tower.forward).parameters:
        tokens = torch.randint(3, 300, (4, 8), generator=torch.Generator().manual_seed(0))
        tokens[:, 0], tokens[:, 5], tokens[:, 6:] = 1, 2, 0
        return tokens
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


@every
def test_config_round_trip(kind: str) -> None:
    config = TOWERS.parse({"kind": kind})
    assert TOWERS.parse(json.loads(json.dumps(TOWERS.dump(config)))) == config


@every
def test_features_have_the_stated_width(kind: str) -> None:
    tower = build(kind)
    assert tower(inputs(tower)).shape == (4, tower.width)


@every
def test_a_sample_is_the_same_alone_and_in_company(kind: str) -> None:
    tower = build(kind).eval()
    batch = inputs(tower)
    torch.testing.assert_close(tower(batch)[1:2], tower(batch[1:2]), rtol=1e-4, atol=1e-5)


@every
def test_training_mode_draws_no_random_numbers(kind: str) -> None:
    tower = build(kind).train()
    torch.testing.assert_close(tower(inputs(tower)), tower(inputs(tower)))


@every
def test_every_parameter_gets_a_gradient(kind: str) -> None:
    tower = build(kind)
    tower(inputs(tower)).square().sum().backward()
    missing = [n for n, p in tower.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing


@pytest.mark.parametrize("kind", ["bag_of_tokens", "text_transformer"])
def test_padding_does_not_change_a_text(kind: str) -> None:
    tower = build(kind).eval()
    text = torch.tensor([[1, 40, 50, 2, 0, 0, 0, 0]])
    torch.testing.assert_close(tower(text), tower(text[:, :4]), rtol=1e-4, atol=1e-5)
