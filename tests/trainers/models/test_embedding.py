from __future__ import annotations

import pytest
import torch
from torch import nn

from trainers.core.objective import Surroundings
from trainers.models import TOWERS
from trainers.models._embedding import PatchProjection, lower_residual

AROUND = Surroundings(size=32, vocabulary=50, length=12)


@pytest.mark.parametrize(("height", "width", "patch"), [(32, 32, 8), (16, 24, 8), (19, 33, 4)])
def test_a_projection_of_patches_is_the_convolution(height: int, width: int, patch: int) -> None:
    conv = nn.Conv2d(3, 10, patch, patch)
    product = PatchProjection(conv)
    images = torch.rand(2, 3, height, width)
    expected = conv(images)
    torch.testing.assert_close(product(images), expected, rtol=0, atol=1e-5)
    weights = torch.rand_like(expected)
    found = []
    for module in (conv, product):
        conv.weight.grad = conv.bias.grad = None
        (module(images) * weights).sum().backward()
        found.append((conv.weight.grad, conv.bias.grad))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-3)


def test_it_takes_over_the_parameters_and_draws_none() -> None:
    conv = nn.Conv2d(3, 4, 2, 2)
    torch.manual_seed(0)
    product = PatchProjection(conv)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(1))
    assert product.weight is conv.weight
    assert list(product.state_dict()) == list(conv.state_dict())


@pytest.mark.parametrize(
    "conv",
    [nn.Conv2d(3, 4, 3, 2), nn.Conv2d(3, 4, 2, 2, padding=1), nn.Conv2d(4, 4, 2, 2, groups=2)],
)
def test_another_convolution_is_refused(conv: nn.Conv2d) -> None:
    with pytest.raises(ValueError, match="side by side"):
        PatchProjection(conv)


def test_the_residual_is_lowered_where_autocast_is_on_and_nowhere_else() -> None:
    layer = nn.LayerNorm(4)  # autocast keeps it in fp32
    lower_residual(layer)
    values = torch.rand(2, 4)
    assert layer(values).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(values).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("kind", "layers"), [("vit", "layers"), ("text_transformer", "encoder.layers")]
)
def test_layers_of_a_tower_add_up_in_the_format_of_autocast(kind: str, layers: str) -> None:
    config = {"kind": kind, "width": 32, "layers": 2, "heads": 2}
    tower = TOWERS.build(TOWERS.parse(config), AROUND)
    seen: list[torch.dtype] = []
    for layer in tower._model.get_submodule(layers):
        layer.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    inputs = torch.rand(2, 3, 32, 32) if kind == "vit" else torch.randint(3, 50, (2, 12))
    with torch.autocast("cpu", torch.bfloat16):
        tower(inputs)
    assert seen == [torch.bfloat16] * 2


@pytest.mark.parametrize(("activation", "sigmoid"), [("gelu", False), ("quick_gelu", True)])
def test_the_activation_of_a_vit_is_the_one_asked_for(activation: str, sigmoid: bool) -> None:
    config = {"kind": "vit", "width": 32, "layers": 1, "heads": 2, "activation": activation}
    tower = TOWERS.build(TOWERS.parse(config), AROUND)
    values = torch.linspace(-3, 3, 7)
    function = tower._model.layers[0].mlp.activation_fn
    expected = values * torch.sigmoid(1.702 * values) if sigmoid else nn.functional.gelu(values)
    torch.testing.assert_close(function(values), expected)
