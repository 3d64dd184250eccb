"""Predict an image's colours from its lightness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pipelines import core
from pipelines.augment import AUGMENTATIONS
from pipelines.augment.crop_colour import CropColour
from pipelines.core.batch import Batch
from pipelines.views import ImageView
from trainers.core.objective import ComparingObjective, LossOutput, Rows, Surroundings
from trainers.core.pictures import shown
from trainers.lab import ab_bins, lab_to_rgb, rgb_to_lab, soft_bins
from trainers.losses.counts import counted
from trainers.losses.gather import gather
from trainers.models import TOWERS
from trainers.models.convnext import ConvNext

_STEP, _NEIGHBOURS, _SIGMA = 10, 5, 5.0


class Colorization(ComparingObjective):
    """Which colour each cell of a grey image has (Zhang et al., 2016, arXiv:1603.08511).

    Not every tower has features of places, so the head maps the tower's one
    vector to ``cells`` x ``cells`` small vectors, and each to bins of colours.
    Rare colours weigh more: the distribution of colours is counted over all
    workers from the run's start, in whole numbers, which no order of summation changes.
    """

    repeats = True

    class Config(core.Config):
        """The tower, the augmentation (of places only: the colours are what is asked), the head.

        Attributes:
            image: Image tower; it sees the lightness in all three channels.
            augmentation: Before the colours are taken away.
            cells: Side of the grid of cells; a cell's colour is its pixels' mean.
            hidden: Numbers of a cell between tower and bins.
            uniform: Share of the uniform distribution in the weights' prior (lambda).
            temperature: Of the mean that ``paint`` takes.
        """

        image: Annotated[core.Config, TOWERS] = ConvNext.Config()
        augmentation: Annotated[core.Config, AUGMENTATIONS] = CropColour.Config(jitter=0, grey=0)
        cells: int = Field(default=8, ge=1)
        hidden: int = 32
        uniform: float = Field(default=0.5, gt=0, le=1)
        temperature: float = Field(default=0.38, gt=0)

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        self.views = {"image": ImageView(augmentation=config.augmentation)}
        self._config = config
        self.tower = LightnessTower(TOWERS.build(config.image, surroundings))
        self.places = nn.Linear(self.tower.width, config.cells**2 * config.hidden)
        self.bins: Tensor
        self.counts: Tensor
        self.register_buffer("bins", ab_bins(_STEP), persistent=False)
        self.register_buffer("counts", torch.zeros(len(self.bins), dtype=torch.int64))
        self.colours = nn.Sequential(nn.GELU(), nn.Linear(config.hidden, len(self.bins)))

    def encode(self, batch: Batch) -> Rows:
        """Classify the cells' colours, softly."""
        images = batch.views["image"]
        target = self._target(images)
        nearest = target.argmax(1)
        logits = self._logits(images).float()
        losses = -(target * F.log_softmax(logits, 1)).sum(1)
        right = (logits.detach().argmax(1) == nearest).float()
        cells = {"loss": losses, "nearest": nearest, "right": right}
        return {name: cell.view(len(images), -1) for name, cell in cells.items()}

    def compare(self, rows: Rows, batch: Batch) -> LossOutput:
        """Count the global batch's colours; rare ones have more weight."""
        nearest = rows["nearest"]
        if self.training:
            self.counts += gather(counted(nearest, len(self.counts))[None]).sum(0)
        weights = rebalanced(self.counts, self._config.uniform)[nearest]
        return LossOutput((weights * rows["loss"]).mean(), {"accuracy": rows["right"].mean()})

    @torch.no_grad()
    def paint(self, images: Tensor) -> Tensor:
        """Take images' colours away and paint them anew (annealed mean, section 2.3 of the paper).

        Args:
            images: In [-1, 1]. [B, 3, S, S]

        Returns:
            The same lightness, colours predicted a cell and blended between. [B, 3, S, S]
        """
        shares = torch.softmax(self._logits(images).float() / self._config.temperature, 1)
        cells = self._config.cells
        ab = (shares @ self.bins.float()).view(-1, cells, cells, 2).permute(0, 3, 1, 2)
        ab = F.interpolate(ab, images.shape[2:], mode="bilinear")
        lightness = rgb_to_lab((images + 1) / 2)[:, :1]
        return lab_to_rgb(torch.cat([lightness, ab], 1)) * 2 - 1

    def pictures(self, images: Tensor) -> Mapping[str, Tensor]:
        """Images that are painted anew."""
        return {"painted anew": shown(self.paint(images))}

    def encoders(self) -> Mapping[str, nn.Module]:
        """The tower, on the lightness that it takes from images itself."""
        return {"image": self.tower}

    def _target(self, images: Tensor) -> Tensor:
        ab = rgb_to_lab((images + 1) / 2)[:, 1:]
        cells = F.adaptive_avg_pool2d(ab, self._config.cells).permute(0, 2, 3, 1)
        return soft_bins(cells.reshape(-1, 2), self.bins, _NEIGHBOURS, _SIGMA)

    def _logits(self, images: Tensor) -> Tensor:
        places = self.places(self.tower(images))
        logits: Tensor = self.colours(places.view(-1, self._config.hidden))
        return logits


class LightnessTower(nn.Module):
    """A tower that sees L*, scaled to [-1, 1], in all three channels."""

    def __init__(self, tower: nn.Module):
        super().__init__()
        self.tower = tower
        self.width = int(tower.width)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """Features of images in [-1, 1]. [B, 3, H, W] -> [B, width]."""
        features: Tensor = self.tower(_lightness(images))
        return features

    def grid(self, images: Tensor) -> Tensor:
        """Features of places. [B, 3, H, W] -> [B, width, h, w]."""
        places: Tensor = self.tower.grid(_lightness(images))  # type: ignore[operator]
        return places


def _lightness(images: Tensor) -> Tensor:
    return (rgb_to_lab((images + 1) / 2)[:, :1] / 50 - 1).expand(-1, 3, -1, -1)


def rebalanced(counts: Tensor, uniform: float) -> Tensor:
    """Weights that are larger for rare bins (equation 4 of the paper).

    ``w ~ 1 / ((1 - uniform) p + uniform / Q)``, scaled so that the mean weight of
    the colours counted is 1. Every bin counts one more, so that p is defined at the start.

    Args:
        counts: How often each bin was seen. [Q] int64
        uniform: Share of the uniform distribution, lambda.

    Returns:
        [Q] float32
    """
    p = (counts + 1).double()
    p = p / p.sum()
    weights = 1 / ((1 - uniform) * p + uniform / len(p))
    return (weights / (p * weights).sum()).float()
