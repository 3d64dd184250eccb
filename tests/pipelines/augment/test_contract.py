"""What every augmentation keeps to: one test for each point, over every member found."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from pipelines.augment import AUGMENTATIONS
from pipelines.core import Member, discover
from pipelines.core.randomness import sample_keys

MEMBERS = list(discover("pipelines.augment").values())
every_member = pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)


def images(count: int = 12, height: int = 20, width: int = 20) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def keys(count: int = 12, epoch: int = 0) -> Tensor:
    samples = torch.arange(count)
    return sample_keys(0, torch.full_like(samples, epoch), samples)


def build(member: Member):
    return AUGMENTATIONS.build(member.config())


@every_member
def test_its_config_round_trips(member):
    config = member.config()
    data = json.loads(json.dumps(AUGMENTATIONS.dump(config)))
    assert data["kind"] == member.name
    assert AUGMENTATIONS.parse(data) == config


@every_member
@pytest.mark.parametrize("count", [1, 2, 12])
@pytest.mark.parametrize(("height", "width"), [(20, 20), (16, 24), (64, 64)])
def test_shape_type_and_range_stay(member, count, height, width):
    view = build(member)(images(count, height, width), keys(count), 16)
    assert view.shape == (count, 3, height, width)
    assert view.dtype == torch.float32
    assert 0 <= float(view.min()) <= float(view.max()) <= 1
    assert bool(torch.isfinite(view).all())


@every_member
def test_extreme_pictures_stay_in_range(member):
    for value in (0.0, 1.0):
        view = build(member)(torch.full((12, 3, 20, 20), value), keys(), 16)
        assert 0 <= float(view.min()) <= float(view.max()) <= 1


@every_member
def test_equal_keys_give_equal_views(member):
    assert torch.equal(build(member)(images(), keys(), 16), build(member)(images(), keys(), 16))


@every_member
def test_global_random_state_is_neither_read_nor_changed(member):
    state = torch.random.get_rng_state()
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = build(member)(images(), keys(), 16)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(build(member)(images(), keys(), 16), first)
    torch.random.set_rng_state(state)


@every_member
def test_what_it_is_given_is_left_alone(member):
    given, given_keys = images(), keys()
    build(member)(given, given_keys, 16)
    assert torch.equal(given, images())
    assert torch.equal(given_keys, keys())


@every_member
def test_a_view_is_the_same_alone_and_in_any_batch(member):
    augment = build(member)
    whole = augment(images(), keys(), 16)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        augment(images()[order], keys()[order], 16), whole[order], rtol=0, atol=1e-5
    )
    for place in range(12):
        one = slice(place, place + 1)
        alone = augment(images()[one], keys()[one], 16)
        torch.testing.assert_close(alone, whole[one], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "member", [m for m in MEMBERS if m.name != "none"], ids=lambda member: member.name
)
def test_streams_and_epochs_differ(member):
    augment = build(member)
    picture = images(1).expand(12, -1, -1, -1)
    first = augment(picture, keys(), 16)
    for other in (augment(picture, keys(), 17), augment(picture, keys(epoch=1), 16)):
        assert (first - other).abs().amax(dim=(1, 2, 3)).min() > 1e-3
    # And of one picture, every sample has its own view.
    distances = (first[:, None] - first[None]).abs().amax(dim=(2, 3, 4))
    assert (distances + torch.eye(12)).min() > 1e-3
