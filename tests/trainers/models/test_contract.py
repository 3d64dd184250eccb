"""One contract over every tower found in the folder."""

from __future__ import annotations

import itertools
import json
from inspect import signature

import pytest
import torch

from trainers.core.objective import Surroundings
from trainers.models import TOWERS

SMALL = {
    "vit": {"width": 24, "layers": 2, "heads": 2, "patch": 8},
    "text_transformer": {"width": 16, "layers": 1, "heads": 2},
    "text_encoder": {"width": 16, "layers": 1, "heads": 2},
    "frame_transformer": {"image": {"kind": "resnet", "widths": [8, 16], "depths": [1, 1]}},
}
AROUND = Surroundings(
    size=32,
    vocabulary=300,
    length=8,
    frames=5,
    frame_size=32,
    frame_rate=4.0,
    sound=2500,
    sound_rate=2000,
)
every = pytest.mark.parametrize("kind", TOWERS.names())


def build(kind: str) -> torch.nn.Module:
    torch.manual_seed(0)
    tower: torch.nn.Module = TOWERS.build(
        TOWERS.parse({"kind": kind, **SMALL.get(kind, {})}), AROUND
    )
    return tower


def inputs(tower: torch.nn.Module) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    (reads,) = signature(tower.forward).parameters
    if reads == "tokens":
        tokens = torch.randint(3, 300, (4, 8), generator=random)
        tokens[:, 0], tokens[:, 5], tokens[:, 6:] = 1, 2, 0
        return tokens
    shapes = {"images": (3, 32, 32), "clips": (5, 3, 32, 32), "waveforms": (2500,)}
    return torch.rand(4, *shapes[reads], generator=random) * 2 - 1


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
def test_no_two_weights_start_alike(kind: str) -> None:
    options = SMALL.get(kind, {}) | ({"layers": 2} if "layers" in SMALL.get(kind, {}) else {})
    tower = TOWERS.build(TOWERS.parse({"kind": kind, **options}), AROUND)
    weights = [(n, p) for n, p in tower.named_parameters() if p.dim() > 1 and p.std() > 0]
    alike = [
        (name, other)
        for (name, a), (other, b) in itertools.combinations(weights, 2)
        if a.shape == b.shape and torch.equal(a, b)
    ]
    assert not alike


@pytest.mark.parametrize("kind", ["vit", "vit_registers", "resnet", "convnext"])
def test_features_of_places_lie_as_in_the_image(kind: str) -> None:
    tower = build(kind).eval()
    images = inputs(tower)
    places = tower.grid(images)
    side = places.shape[2]
    assert places.shape[0] == 4
    assert places.shape[2:] == (side, side)
    # What changes in a corner of the picture changes that corner's features most.
    changed = images.clone()
    changed[:, :, -4:, :4] += 1
    moved = (tower.grid(changed) - places).square().sum(1)
    assert (moved.flatten(1).argmax(1) == (side - 1) * side).all()


@every
def test_every_parameter_gets_a_gradient(kind: str) -> None:
    tower = build(kind)
    tower(inputs(tower)).square().sum().backward()
    missing = [n for n, p in tower.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing


@pytest.mark.parametrize("kind", ["bag_of_tokens", "text_transformer", "text_encoder"])
def test_padding_does_not_change_a_text(kind: str) -> None:
    tower = build(kind).eval()
    text = torch.tensor([[1, 40, 50, 2, 0, 0, 0, 0]])
    torch.testing.assert_close(tower(text), tower(text[:, :4]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["frame_transformer", "tubelet", "mel_transformer"])
def test_what_lasts_longer_or_shorter_is_read_too(kind: str) -> None:
    tower = build(kind)
    batch = inputs(tower)
    longer = torch.cat([batch, batch, batch], 1)
    for part in (longer, batch[:, : batch.shape[1] // 5]):
        assert tower(part).shape == (4, tower.width)


@pytest.mark.parametrize("kind", ["frame_transformer", "tubelet", "mel_transformer"])
def test_it_matters_when_something_is(kind: str) -> None:
    tower = build(kind).eval()
    batch = inputs(tower)
    assert (tower(batch) - tower(batch.flip(1))).abs().max() > 1e-4


over_time = pytest.mark.parametrize(
    "kind", ["frame_transformer", "mel_transformer", "r2plus1d", "tubelet"]
)


@over_time
def test_features_over_time_are_those_of_the_whole_on_average(kind: str) -> None:
    tower = build(kind).eval()
    batch = inputs(tower)
    moments = tower.over_time(batch)
    assert moments.shape[0] == 4
    assert moments.shape[1] > 1
    assert moments.shape[2] == tower.time_width
    torch.testing.assert_close(moments.mean(1), tower(batch))


@over_time
def test_features_over_time_lie_in_its_order(kind: str) -> None:
    """What changes at the end changes the end's features most."""
    tower = build(kind).eval()
    batch = inputs(tower)
    batch = batch if batch.dim() == 2 else batch[:, [0, 1, 2, 3, 4, 4, 3, 2, 1, 0, 0, 1]]
    changed = batch.clone()
    changed[:, -batch.shape[1] // 8 :] = 0.0
    moved = (tower.over_time(changed) - tower.over_time(batch)).abs().mean((0, 2))
    assert moved.argmax() >= len(moved) - 2
    assert moved[-2:].mean() > 1.5 * moved[: len(moved) // 2].mean()
