"""A class for each pixel: a linear head on a tower's places, and how right it is.

B images, N of a test set, C classes, D dimensions, H x W pixels, h x w places.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.core import UserError
from pipelines.decode.mask import UNCOUNTED
from pipelines.views import normalise, pixels
from trainers.classifier import IGNORED, Network
from trainers.core.evaluation import GalleryRow, Outcome
from trainers.finetune_task import Task

_BATCH = 64
_RESAMPLES, _SEED, _TAILS = 1000, 0, (0.025, 0.975)
Masks = Mapping[str, npt.NDArray[np.uint8]]
"""Masks of every test set by name. [N, H, W] each"""


class DenseNetwork(Network):
    """A tower's features of places, standardised, through a linear head; enlarged to pixels."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits. [B, 3, H, W] in [-1, 1] -> [B, C, H, W]."""
        places = _grid(self.tower, images).permute(0, 2, 3, 1)  # [B, h, w, D]
        logits = self.head((places - self.mean) / self.scale).permute(0, 3, 1, 2)
        return F.interpolate(logits, images.shape[2:], mode="bilinear", align_corners=False)


def dense_network(tower: nn.Module, images: npt.NDArray[np.uint8], classes: int) -> DenseNetwork:
    """Begin with a head of zeros that standardises the places of some images.

    Args:
        tower: Copied.
        images: [M, H, W, 3] uint8
        classes: C.

    Raises:
        UserError: The tower has no places, or their features are not finite.
    """
    if not hasattr(tower, "grid"):
        raise UserError(
            "this tower makes no features of places, which mode dense needs; use one of vit, "
            "vit_registers, resnet and convnext"
        )
    device = next(tower.parameters()).device
    total = squares = torch.zeros((), dtype=torch.float64, device=device)
    count = 0
    with torch.inference_mode():
        for part in torch.split(torch.from_numpy(images), _BATCH):
            places = _grid(tower, normalise(pixels(part.to(device))))
            rows = places.double().movedim(1, -1).flatten(0, -2)
            total, squares = total + rows.sum(0), squares + rows.square().sum(0)
            count += len(rows)
    mean = total / count
    scale = (squares / count - mean.square()).clamp(min=0).sqrt()
    if not bool(mean.isfinite().all() and scale.isfinite().all()):
        raise UserError("features of places are not finite numbers: its training has diverged")
    scale = torch.where(scale > 1e-6 * (1 + mean.abs()), scale, 1.0)
    head = {"mean": mean, "scale": scale}
    head |= {
        "head.weight": torch.zeros(classes, len(mean)),
        "head.bias": torch.zeros(classes),
    }
    values = {name: value.float().to(device) for name, value in head.items()}
    return DenseNetwork(tower, values).to(device)


def _grid(tower: Any, images: Tensor) -> Tensor:
    places: Tensor = tower.grid(images)
    return places


def targets(masks: npt.NDArray[np.uint8]) -> Tensor:
    """Numbers of a mask as labels; what does not count is ``IGNORED``. int64, same shape."""
    labels = torch.from_numpy(masks.astype(np.int64))
    return labels.masked_fill(labels == UNCOUNTED, IGNORED)


@torch.inference_mode()
def answers(network: nn.Module, images: npt.NDArray[np.uint8], device: torch.device) -> Tensor:
    """Find the likeliest class of each pixel, in evaluation mode.

    Args:
        network: Makes logits [B, C, H, W].
        images: [B, H, W, 3] uint8
        device: Where to compute.

    Returns:
        On the CPU. [B, H, W] int64
    """
    network.eval()
    stored = torch.from_numpy(np.ascontiguousarray(images))
    found: Tensor = network(normalise(pixels(stored.to(device)))).argmax(1)
    return found.cpu()


def confusions(
    network: nn.Module,
    images: npt.NDArray[np.uint8],
    masks: npt.NDArray[np.uint8],
    classes: int,
    device: torch.device,
) -> Tensor:
    """Count each image's pixels by what they are and what they are said to be.

    Args:
        network: Makes logits [B, C, H, W].
        images: [N, H, W, 3] uint8
        masks: [N, H, W] uint8; a number from C on is of a class that nothing was learned of.
        classes: C.
        device: Where to compute.

    Returns:
        The last row is of pixels of unknown classes. [N, C + 1, C] int64
    """
    found = []
    for start in range(0, len(images), _BATCH):
        said = answers(network, images[start : start + _BATCH], device).flatten(1)
        true = torch.from_numpy(masks[start : start + _BATCH].astype(np.int64)).flatten(1)
        counts, true = true != UNCOUNTED, true.clamp(max=classes)
        cells = (true * classes + said).where(counts, torch.tensor((classes + 1) * classes))
        rows = torch.stack(
            [torch.bincount(row, minlength=(classes + 1) * classes + 1) for row in cells]
        )
        found.append(rows[:, :-1].view(-1, classes + 1, classes))
    return torch.cat(found)


def mean_iou(confusion: Tensor) -> Tensor:
    """Intersection over union, averaged over classes that occur or are said to. [..., C+1, C]."""
    classes = confusion.shape[-1]
    right = confusion[..., :classes, :].diagonal(dim1=-2, dim2=-1).double()
    union = confusion[..., :classes, :].sum(-1) + confusion.sum(-2) - right
    there = union > 0
    share = torch.where(there, right / union.clamp(min=1), 0.0)
    return share.sum(-1) / there.sum(-1).clamp(min=1)


def dense_outcome(
    confusion: Tensor, frequent: int, gallery: tuple[GalleryRow, ...] = ()
) -> Outcome:
    """Score a test set.

    The guesser says everywhere what most pixels of the reference are. The interval resamples
    images (Efron, 1979).

    Args:
        confusion: Of each image. [N, C + 1, C] int64
        frequent: The most frequent class of the reference's pixels.
        gallery: Pictures for the report.
    """
    whole = confusion.sum(0)
    guessed = torch.zeros_like(whole)
    guessed[:, frequent] = whole.sum(1)
    drawn = np.random.default_rng(_SEED).multinomial(
        len(confusion), np.full(len(confusion), 1 / len(confusion)), _RESAMPLES
    )
    resampled = torch.einsum("rn,nij->rij", torch.from_numpy(drawn).double(), confusion.double())
    low, high = np.quantile(mean_iou(resampled).numpy(), _TAILS)
    diagonal = whole[:-1].diagonal().sum()
    return Outcome(
        metrics={
            "mean_iou": float(mean_iou(whole)),
            "pixel_accuracy": float(diagonal / whole.sum().clamp(min=1)),
        },
        headline="mean_iou",
        chance=float(mean_iou(guessed)),
        examples=len(confusion),
        interval=(float(low), float(high)),
        gallery=gallery,
    )


def masks_of(task: Task) -> Masks:
    """Masks of every test set by name.

    Raises:
        UserError: There are none.
    """
    found = {name: labelled.test.masks for name, labelled in task.sets.items()}
    if task.labelled.reference.masks is None or any(masks is None for masks in found.values()):
        raise UserError("mode dense needs masks: say in 'mask' where they are")
    return {name: masks for name, masks in found.items() if masks is not None}
