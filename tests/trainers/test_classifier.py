from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pipelines.core import ConfigError
from pipelines.core.batch import Batch
from trainers.classifier import Classifier, Network, depths, interpolate, with_layer_decay
from trainers.core.engine import OptimizerConfig
from trainers.core.objective import Surroundings
from trainers.models import TOWERS
from trainers.optimizers import parameter_groups

SMALL = {
    "vit": {"width": 8, "layers": 3, "heads": 2, "patch": 8},
    "vit_registers": {"width": 8, "layers": 3, "heads": 2, "patch": 8},
    "convnext": {"widths": [8, 16, 8], "depths": [1, 2, 1]},
    "resnet": {"widths": [8, 16, 8], "depths": [1, 2, 1]},
}
# By the names that each library gives: before the blocks, block i, after them.
BLOCKS = {
    "vit": "_model.layers.",
    "vit_registers": "_model.encoder.layer.",
    "convnext": "_model.encoder.stages.",
    "resnet": "_model.encoder.stages.",
}


def network_of(kind: str, classes: int = 3) -> Network:
    tower = TOWERS.build(TOWERS.parse({"kind": kind, **SMALL[kind]}), Surroundings(size=16))
    return Network(tower, head_of(tower.width, classes))


def head_of(width: int, classes: int) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return {
        "mean": torch.randn(width, generator=random),
        "scale": torch.rand(width, generator=random) + 0.5,
        "head.weight": torch.randn(classes, width, generator=random),
        "head.bias": torch.randn(classes, generator=random),
    }


def depth_by_name(name: str, kind: str) -> int:
    """What BEiT and MAE do for a transformer of three layers."""
    if not name.startswith("tower."):
        return 4
    inner = name.removeprefix("tower.")
    if inner.startswith(BLOCKS[kind]):
        return int(inner.removeprefix(BLOCKS[kind]).partition(".")[0]) + 1
    return 0 if "embed" in inner else 4


@pytest.mark.parametrize("kind", SMALL)
def test_depths_are_those_that_names_tell(kind):
    network = network_of(kind)
    found, top = depths(network)
    assert top == 4
    assert found == {name: depth_by_name(name, kind) for name, _ in network.named_parameters()}


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_rates_decay_by_depth(kind, decay):
    classifier = Classifier(network_of(kind))
    config = with_layer_decay(classifier, OptimizerConfig(), decay)
    groups = parameter_groups(classifier, config)
    scale = {id(p): group["scale"] for group in groups for p in group["params"]}
    for name, parameter in classifier.network.named_parameters():
        expected = decay ** (4 - depth_by_name(name, kind))
        assert scale[id(parameter)] == pytest.approx(expected, rel=1e-12)


def test_own_rates_are_factors_as_well():
    classifier = Classifier(network_of("vit"))
    own = OptimizerConfig(rates={"network.head.*": 10.0, "*layers.0*": 0.0})
    config = with_layer_decay(classifier, own, 0.5)
    assert config.rates["network.head.weight"] == 10.0
    assert config.rates["network.tower._model.layers.0.mlp.fc1.weight"] == 0.0
    assert config.rates["network.tower._model.layers.2.mlp.fc1.weight"] == 0.5
    with pytest.raises(ConfigError, match=r"optimizer.rates: 'hed' fits no parameter"):
        with_layer_decay(classifier, OptimizerConfig(rates={"hed": 1.0}), 0.5)


def test_a_decay_of_one_changes_nothing():
    config = OptimizerConfig(rates={"*head*": 2.0})
    assert with_layer_decay(Classifier(network_of("vit")), config, 1.0) is config


def test_a_tower_without_blocks_says_so():
    classifier = Classifier(Network(nn.Linear(4, 2), head_of(2, 3)))
    with pytest.raises(ConfigError, match="no blocks; set it to 1"):
        with_layer_decay(classifier, OptimizerConfig(), 0.5)


def test_logits_and_loss_are_those_of_the_formula():
    random = torch.Generator().manual_seed(1)
    head, tower = head_of(2, 3), nn.Linear(4, 2)
    inputs, labels = torch.randn(5, 4, generator=random), torch.tensor([0, 2, 1, 1, 0])
    with torch.no_grad():
        features = tower(inputs).double()
    standard = (features - head["mean"].double()) / head["scale"].double()
    logits = standard @ head["head.weight"].double().T + head["head.bias"].double()
    loss = -(logits - logits.logsumexp(1, keepdim=True))[torch.arange(5), labels].mean()
    network = Network(tower, head)
    torch.testing.assert_close(network(inputs).double(), logits, atol=1e-5, rtol=1e-5)
    batch = Batch(torch.arange(5), torch.arange(5), {"image": inputs, "label": labels})
    torch.testing.assert_close(Classifier(network)(batch).loss.double(), loss, atol=1e-5, rtol=1e-5)


def test_a_teacher_learns_and_the_tower_it_was_copied_from_is_left_alone():
    tower = nn.Linear(4, 2).requires_grad_(False)
    before = tower.weight.clone()
    network = Network(tower, head_of(2, 3))
    assert network.tower.weight.requires_grad
    with torch.no_grad():
        network.tower.weight.add_(1)
    assert torch.equal(tower.weight, before)
    assert not tower.weight.requires_grad


def test_what_a_student_holds_fast_stays_fast():
    tower = nn.Linear(4, 2)
    tower.bias.requires_grad_(False)
    assert not Network(tower, head_of(2, 3)).tower.bias.requires_grad


WEIGHTS = st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=4).map(torch.tensor)


@settings(max_examples=60, deadline=None)
@given(WEIGHTS, WEIGHTS, st.floats(0, 1))
def test_ensembles_lie_on_the_line_and_end_in_its_ends(one, other, alpha):
    start, end = {"w": one}, {"w": other}
    assert torch.equal(interpolate(start, end, 0.0)["w"], one)
    assert torch.equal(interpolate(start, end, 1.0)["w"], other)
    expected = (1 - alpha) * one.double() + alpha * other.double()
    found = interpolate(start, end, alpha)["w"].double()
    error = 1e-6 * (one.abs().max() + other.abs().max())
    assert ((found - expected).abs() <= error).all()


def test_numbers_that_are_not_weights_are_kept():
    start, end = {"n": torch.arange(3)}, {"n": torch.arange(3)}
    assert torch.equal(interpolate(start, end, 0.5)["n"], torch.arange(3))


def test_gradients_reach_the_tower_and_not_the_standardisation():
    network = network_of("convnext")
    F.cross_entropy(network(torch.randn(2, 3, 16, 16)), torch.tensor([0, 1])).backward()
    assert all(p.grad is not None for p in network.parameters())
    assert {"mean", "scale"}.isdisjoint(name for name, _ in network.named_parameters())
