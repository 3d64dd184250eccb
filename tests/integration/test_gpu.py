"""What must hold on a CUDA device; skipped where there is none."""

from __future__ import annotations

import pytest
import torch

from pipelines.augment import AUGMENTATIONS
from pipelines.core.randomness import normal, uniform
from tests.trainers.conftest import builder_of, small_recipe, tables_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
KEYS = torch.arange(-500, 500) * 7919


def test_random_numbers_are_the_same_on_both_devices() -> None:
    assert torch.equal(uniform(KEYS, 3, 5), uniform(KEYS.cuda(), 3, 5).cpu())
    torch.testing.assert_close(normal(KEYS, 3, 5), normal(KEYS.cuda(), 3, 5).cpu())


@pytest.mark.parametrize("kind", AUGMENTATIONS.names())
def test_augmented_images_are_the_same_on_both_devices(kind: str) -> None:
    augment = AUGMENTATIONS.build(AUGMENTATIONS.parse({"kind": kind}))
    images = torch.rand(1000, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    here, there = augment(images, KEYS, 1), augment(images.cuda(), KEYS.cuda(), 1).cpu()
    torch.testing.assert_close(here, there, rtol=0, atol=2 / 255)


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
