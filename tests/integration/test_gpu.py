"""What must hold on a CUDA device; skipped where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.augment import AUGMENTATIONS
from pipelines.core.randomness import normal, uniform
from pipelines.views import normalise, pixels
from pipelines.views.upload import upload
from tests.trainers.conftest import builder_of, small_recipe, tables_of
from trainers.core.later import Later

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
KEYS = torch.arange(-500, 500) * 7919


def test_random_numbers_are_the_same_on_both_devices() -> None:
    assert torch.equal(uniform(KEYS, 3, 5), uniform(KEYS.cuda(), 3, 5).cpu())
    torch.testing.assert_close(normal(KEYS, 3, 5), normal(KEYS.cuda(), 3, 5).cpu())


CHANGES = [{"kind": kind} for kind in AUGMENTATIONS.names()]
CHANGES.append({"kind": "crop_colour", "blur": 0.5, "sigma": (0.1, 2.0)})


@pytest.mark.parametrize("config", CHANGES, ids=str)
def test_augmented_images_are_the_same_on_both_devices(config: dict[str, object]) -> None:
    augment = AUGMENTATIONS.build(AUGMENTATIONS.parse(config))
    images = torch.rand(1000, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    here, there = augment(images, KEYS, 1), augment(images.cuda(), KEYS.cuda(), 1).cpu()
    torch.testing.assert_close(here, there.float(), rtol=0, atol=1 / 255)


def test_pixels_are_the_same_on_both_devices() -> None:
    stored = torch.randint(0, 256, (8, 20, 20, 3), dtype=torch.uint8)
    for work in (pixels, lambda images: normalise(pixels(images))):
        torch.testing.assert_close(work(stored), work(stored.cuda()).cpu(), rtol=0, atol=1e-6)


def _busy(seconds: float) -> torch.Tensor:
    """Queue work for at least so long."""
    values = torch.rand(4096, 4096, device="cuda")
    for _ in range(int(seconds * 1000)):  # each takes more than a millisecond
        values = values @ values
    return values


def test_an_upload_arrives_whole_and_does_not_wait_for_the_device() -> None:
    numbers = np.random.default_rng(0).integers(0, 256, (64, 1 << 16), dtype=np.uint8)
    device = torch.device("cuda", torch.cuda.current_device())
    upload(numbers, device)  # locks memory, which waits
    torch.cuda.synchronize()
    _busy(0.5)
    copied = upload(numbers, device)
    assert not torch.cuda.current_stream().query()
    assert np.array_equal(copied.cpu().numpy(), numbers)


def test_a_number_is_there_before_what_follows_it() -> None:
    Later(torch.zeros(1, device="cuda")).number()
    torch.cuda.synchronize()
    later = Later(torch.full((1,), 3.0, device="cuda"))
    _busy(0.5)
    assert later.number() == 3.0
    assert not torch.cuda.current_stream().query()


def test_a_step_learns_the_same() -> None:
    from trainers.core.engine import OptimizerConfig
    from trainers.model import build_objective
    from trainers.torch_engine import TorchEngine

    recipe = small_recipe(objective={"kind": "rotation"}, tokenizer=None)
    table = next(tables_of(recipe))
    losses = []
    for name in ("cpu", "cuda"):
        objective = build_objective(recipe, None)
        engine = TorchEngine(objective, OptimizerConfig(), torch.device(name))
        batch = builder_of(recipe, objective, None)(table).to(engine.device)
        losses.append([engine.step(batch, 1e-3).output.loss.item() for _ in range(3)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
