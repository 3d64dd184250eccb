from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cluster.bench.augment import VIEWS, Augmenting, TwoViews, candidates, kornia, ours
from pipelines.augment import AUGMENTATIONS
from pipelines.core import UserError
from pipelines.core.randomness import sample_keys
from pipelines.views import pixels

SMALL = Augmenting(size=32, batch=6, seconds=0.05)


def peer(augmenting: Augmenting) -> TwoViews:
    pytest.importorskip("kornia", reason="kornia is not installed: pip install kornia")
    return kornia(augmenting)


makers = pytest.mark.parametrize("maker", [lambda _: ours(), peer], ids=["ours", "kornia"])


def stored(count: int = 6, size: int = 32) -> Tensor:
    drawn = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, size, size, 3), generator=drawn, dtype=torch.uint8)


@pytest.mark.parametrize("name", ["ours", "kornia"])
def test_every_candidate_is_measured(name: str) -> None:
    pytest.importorskip("kornia", reason="kornia is not installed: pip install kornia")
    assert candidates(SMALL)[name]() > 0


@makers
def test_both_views_differ_between_views_batches_and_samples(
    maker: Callable[[Augmenting], TwoViews],
) -> None:
    make = maker(SMALL)
    same = stored(1).expand(6, -1, -1, -1)
    views = torch.cat([*make(same, 0), *make(same, 1)])
    assert views.shape == (24, 3, 32, 32)
    assert views.dtype == torch.float32
    assert -1e-5 <= float(views.min()) <= float(views.max()) <= 1 + 1e-5
    distances = (views[:, None] - views[None]).abs().amax(dim=(2, 3, 4))
    assert (distances + torch.eye(24)).min() > 1e-3


def test_both_do_the_same_operations() -> None:
    """Over many views, statistics that each of the operations moves."""
    make, size = peer(Augmenting(32, 400, 1.0)), 32
    ramp = (torch.arange(size) * 8).to(torch.uint8).expand(size, size)
    picture = torch.stack([ramp, ramp.T, torch.full_like(ramp, 90)], dim=2)
    same = picture.expand(400, -1, -1, -1)

    def traits(views: Tensor) -> Tensor:
        grey = (views[:, 0] - views[:, 1]).abs().amax(dim=(1, 2)) < 1e-3
        mirrored = views[:, 0, :, -1].mean(1) < views[:, 0, :, 0].mean(1)
        slopes = (views[:, :, 1:] - views[:, :, :-1]).abs().mean(dim=(1, 2, 3))
        return torch.stack(
            [grey.float().mean(), mirrored.float().mean(), views.mean(), slopes.mean()]
        )

    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = traits(torch.cat(make(same, 0)))
    mine = traits(torch.cat(ours()(same, 0)))
    assert ((mine - theirs).abs() < torch.tensor([0.08, 0.12, 0.05, 0.01])).all(), (mine, theirs)


def test_the_kernel_is_odd_and_about_a_tenth_of_the_side() -> None:
    kernels = {size: Augmenting(size, 1, 1.0).kernel for size in (8, 32, 64, 96, 224)}
    assert kernels == {8: 3, 32: 3, 64: 7, 96: 9, 224: 23}


def test_every_operation_of_the_paper_is_on() -> None:
    picture = stored(1).expand(64, -1, -1, -1)
    whole = ours()(picture, 0)[0]
    for off in ({"aspect": 1}, {"flip": 0}, {"jitter": 0}, {"grey": 0}, {"blur": 0}):
        config = type(VIEWS).model_validate({**VIEWS.model_dump(), **off})
        samples = torch.arange(64)
        keys = sample_keys(0, torch.zeros_like(samples), samples)
        without = AUGMENTATIONS.build(config)(pixels(picture), keys, 16)
        assert (whole - without).abs().max() > 0.1, off


def test_without_kornia_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kornia", None)
    with pytest.raises(UserError, match=r"^kornia is not installed: pip install kornia$"):
        candidates(SMALL)


@pytest.mark.parametrize("device", ["nowhere", "cuda:99"])
def test_a_device_that_is_not_there_is_told_in_a_line(device: str) -> None:
    with pytest.raises(UserError, match=f"^--device {device}: [^\n]+$"):
        candidates(Augmenting(32, 6, 0.05, device))
