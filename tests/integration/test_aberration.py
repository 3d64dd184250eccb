"""A lens's colour fringes tell where a patch was: the guard must keep a model from using them.

Doersch et al., 2015 (arXiv:1505.05192, section 3.1). The pictures are textures of noise, the same
everywhere: where a patch was shows in nothing but the fringes.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pipelines.augment.none import Nothing
from pipelines.core.batch import Batch
from trainers.core.objective import Surroundings
from trainers.models.resnet import Resnet
from trainers.objectives.relative_position import RelativePosition
from trainers.patches import PatchConfig

SIZE, WAVES, BATCH, STEPS, HELD_OUT = 64, 24, 64, 500, 64
FRINGE = 0.06  # by how much red is larger than green, and blue smaller
CHANCE = 1 / 8


def textures(count: int, seed: int) -> Tensor:
    """Grey waves through a lens that scales each colour otherwise. [N, 3, S, S] in [-1, 1].

    Sums of plane waves of random directions and phases are alike everywhere, and are known at
    every place: resampling a picture would blur it more in some places than in others.
    """
    random = torch.Generator().manual_seed(seed)
    bends = SIZE / 2 * torch.rand(2, count, WAVES, generator=random).mul(2).sub(1)
    phases = 2 * math.pi * torch.rand(count, WAVES, generator=random)
    along = torch.linspace(-1, 1, SIZE)[:, None]
    colours = []
    for scale in (1 - FRINGE, 1.0, 1 + FRINGE):
        x, y = (torch.polar(torch.ones(()), scale * along * bend[:, None]) for bend in bends)
        turned = x * torch.polar(torch.ones(()), phases)[:, None]
        colours.append((y @ turned.transpose(1, 2)).real / math.sqrt(WAVES))
    return torch.stack(colours, 1).clamp(-1, 1)


def batch(seed: int) -> Batch:
    random = torch.Generator().manual_seed(seed)
    keys = torch.randint(1 << 62, (BATCH,), generator=random)
    return Batch(torch.arange(BATCH), keys, {"image": textures(BATCH, seed)})


def learned(channels: str) -> float:
    """Held-out accuracy after training under a guard."""
    torch.manual_seed(0)
    config = RelativePosition.Config(
        image=Resnet.Config(widths=(32, 64), depths=(1, 1), pooling="flat"),
        augmentation=Nothing.Config(),
        patches=PatchConfig.model_validate({"channels": channels}),
        hidden=128,
    )
    objective = RelativePosition(config, Surroundings(size=SIZE))
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-3)
    for step in range(STEPS):
        optimizer.zero_grad()
        objective(batch(step)).loss.backward()
        optimizer.step()
    objective.eval()
    with torch.no_grad():
        found = [objective(batch(STEPS + n)).metrics["accuracy"].item() for n in range(HELD_OUT)]
    return sum(found) / len(found)


@pytest.mark.slow
@pytest.mark.parametrize("channels", ["keep", "drop"])
def test_fringes_are_learned_from_unless_the_guard_hides_them(channels: str) -> None:
    accuracy = learned(channels)
    error = (CHANCE * (1 - CHANCE) / (HELD_OUT * BATCH)) ** 0.5
    if channels == "keep":
        assert accuracy > 2 * CHANCE
    else:
        assert abs(accuracy - CHANCE) < 4 * error
