from __future__ import annotations

import torch

from pipelines.augment import AUGMENTATIONS
from pipelines.augment.none import Nothing
from pipelines.augment.quality import Quality
from pipelines.core.batch import Batch
from pipelines.core.randomness import part_keys
from tests.trainers import two_workers
from tests.trainers.conftest import AROUND
from tests.trainers.two_workers import assert_two_equal_one
from trainers.models.frame_transformer import FrameTransformer
from trainers.models.resnet import Resnet
from trainers.objectives.arrow_of_time import ArrowOfTime, turn

FRAMES, SIZE = 8, 16


def test_two_workers_are_one() -> None:
    assert_two_equal_one("arrow_of_time")


def test_only_the_chosen_clips_are_turned() -> None:
    clips = torch.arange(24.0).view(2, 4, 3)
    turned = turn(clips, torch.tensor([False, True]))
    assert torch.equal(turned[0], clips[0])
    assert torch.equal(turned[1], clips[1].flip(0))


def accuracy(guard) -> float:
    """Still pictures, with noise that grows from frame to frame as a codec's does."""
    torch.manual_seed(0)
    random = torch.Generator().manual_seed(0)
    tower = FrameTransformer.Config(
        image=Resnet.Config(widths=(8, 16), depths=(1, 1)), width=32, layers=1, heads=2
    )
    objective = ArrowOfTime(
        ArrowOfTime.Config(video=tower, augmentation=Nothing.Config(), guard=guard), AROUND
    )
    disturb = AUGMENTATIONS.build(guard)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)

    def draw(count: int) -> Batch:
        still = torch.rand(count, 1, 3, 1, 1, generator=random) * 0.5 + 0.25
        noise = torch.randn(count, FRAMES, 1, SIZE, SIZE, generator=random)
        strength = torch.linspace(0.0, 0.03, FRAMES).view(-1, 1, 1, 1)
        frames = (still + noise * strength).clamp(0, 1)
        keys = torch.randint(-(2**62), 2**62, (count,), generator=random)
        seen = disturb(frames.flatten(0, 1), part_keys(keys, FRAMES).flatten(), 16)
        long = torch.ones(count, dtype=torch.bool)
        clips = seen.view_as(frames) * 2 - 1
        return Batch(torch.arange(count), keys, {"clip": clips, "long": long})

    for _ in range(120):
        objective(draw(32)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        return objective(draw(500)).metrics["accuracy"].item()


def test_without_the_guard_the_quality_of_frames_tells_the_direction() -> None:
    assert accuracy(Nothing.Config()) > 0.9


def test_with_the_guard_it_does_not() -> None:
    assert abs(accuracy(Quality.Config()) - 0.5) < 0.1


def test_a_guess_is_right_one_time_in_2() -> None:
    assert two_workers.small("arrow_of_time").chance == 1 / 2
