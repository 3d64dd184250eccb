"""Two views of every picture as SimCLR makes them: this project's augmentations and kornia's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cluster.bench.rounds import Measure, rate_of
from pipelines.augment import AUGMENTATIONS
from pipelines.augment.crop_colour import CropColour
from pipelines.core import UserError
from pipelines.core.randomness import sample_keys
from pipelines.views import pixels

# Appendix A of arXiv:2002.05709, colour distortion of strength 1.
VIEWS = CropColour.Config(
    area=(0.08, 1.0),
    aspect=4 / 3,
    flip=0.5,
    jitter=0.8,
    brightness=0.8,
    contrast=0.8,
    saturation=0.8,
    hue=0.2,
    grey=0.2,
    blur=0.5,
    sigma=(0.1, 2.0),
)
TwoViews = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""From stored pictures [B, S, S, 3] uint8 and a batch's number, views [B, 3, S, S] in [0, 1]."""


@dataclass(frozen=True)
class Augmenting:
    """What both candidates do: two views of the same pictures, again and again.

    Attributes:
        size: Side of the pictures and of the views, in pixels.
        batch: Pictures a batch.
        seconds: Of a measurement.
        device: Where, as PyTorch names it.
    """

    size: int
    batch: int
    seconds: float
    device: str = "cpu"

    @property
    def kernel(self) -> int:
        """Side of kornia's blur kernel in pixels: a tenth of the picture's, odd, 3 at least."""
        return max(3, self.size // 10 | 1)


def candidates(augmenting: Augmenting) -> Mapping[str, Measure]:
    """What is measured, by name; a sample is a picture with its two views."""
    device = _device(augmenting.device)
    shape = (augmenting.batch, augmenting.size, augmenting.size, 3)
    drawn = torch.Generator().manual_seed(0)
    stored = torch.randint(0, 256, shape, generator=drawn, dtype=torch.uint8).to(device)
    makers = {"ours": ours(), "kornia": kornia(augmenting)}
    return {name: _measure(augmenting, stored, make) for name, make in makers.items()}


def ours() -> TwoViews:
    """``crop_colour``, with new keys for every batch."""
    augment = AUGMENTATIONS.build(VIEWS)

    def make(stored: Tensor, number: int) -> tuple[Tensor, Tensor]:
        samples = torch.arange(len(stored))
        keys = sample_keys(0, torch.full_like(samples, number), samples).to(stored.device)
        images = pixels(stored)
        return augment(images, keys, 16).float(), augment(images, keys, 17).float()

    return make


def kornia(augmenting: Augmenting) -> TwoViews:
    """The same operations and strengths by kornia, each sample with its own numbers.

    Of its classes and modes for an operation, those that are the fastest on two cores:
    resampling beats slicing, which loops over the samples.
    """
    try:
        from kornia import augmentation
    except ImportError:
        raise UserError("kornia is not installed: pip install kornia") from None
    v, side, kernel = VIEWS, augmenting.size, augmenting.kernel
    augment = torch.nn.Sequential(
        augmentation.RandomResizedCrop(
            (side, side),
            scale=v.area,
            ratio=(1 / v.aspect, v.aspect),
            align_corners=False,
            cropping_mode="resample",
        ),
        augmentation.RandomHorizontalFlip(p=v.flip),
        augmentation.ColorJitter(v.brightness, v.contrast, v.saturation, v.hue, p=v.jitter),
        augmentation.RandomGrayscale(p=v.grey),
        augmentation.RandomGaussianBlur((kernel, kernel), v.sigma, p=v.blur),
    )

    def make(stored: Tensor, number: int) -> tuple[Tensor, Tensor]:
        images = pixels(stored)
        return augment(images), augment(images)

    return make


def threads() -> int:
    """Threads that both candidates compute with on the CPU."""
    return torch.get_num_threads()


def _measure(augmenting: Augmenting, stored: Tensor, make: TwoViews) -> Measure:
    def batches() -> Iterator[Tensor]:
        number = 0
        while True:
            with torch.inference_mode():  # not around the yield: it would leak to the consumer
                first, _ = make(stored, number)
            if stored.is_cuda:
                torch.cuda.synchronize()
            yield first
            number += 1

    return lambda: rate_of(batches(), augmenting.seconds / 5, augmenting.seconds)


def _device(name: str) -> torch.device:
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as reason:
        line = (str(reason).splitlines() or [""])[0]
        raise UserError(f"--device {name}: {line}") from None
