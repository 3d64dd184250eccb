"""Self-distillation of images and of masked patches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pipelines import core
from pipelines.augment import AUGMENTATIONS
from pipelines.augment.crop_colour import CropColour
from pipelines.core import ConfigError
from pipelines.core.batch import Batch
from pipelines.core.randomness import integers, uniform
from pipelines.views import two_views
from trainers.core.objective import ComparingObjective, LossOutput, Rows, Surroundings
from trainers.heads import Prototypes, mlp
from trainers.losses import self_distillation as losses
from trainers.losses.assignment import sinkhorn
from trainers.models.vit_registers import VitRegisters
from trainers.momentum import Teacher, rising

_PLACES, _WHICH, _LOCAL = 1, 2, 3  # streams; the views' begin at 16
_ITERATIONS = 3


class Dinov2(ComparingObjective):
    """Predict a teacher's view of an image, and of its masked patches (arXiv:2304.07193).

    Views are as large as the stored images; small ones are cut out of the two large
    ones here, and share their colours. One of a sample's large views, by its key, is
    masked. The heads are normalised over the global batch, unlike the paper's.
    """

    class Config(core.Config):
        """The vision transformer (no other tower can mask patches), views, heads and targets.

        Attributes:
            vit: Image tower.
            augmentation: Applied twice, with independent numbers.
            local_crops: Small views of a sample.
            local_area: Range of a small view's share of the large one.
            local_resolution: Side of small views in sides of an image, rounded to patches.
            masked: Share of a view's patches that are masked.
            hidden: Width of the heads' hidden layers.
            projection: Dimensions of the projections.
            prototypes: K, numbers that a head gives.
            temperature: Of the student.
            teacher_temperature: At the beginning and after the warm-up.
            warmup: Share of the run over which the teacher's temperature rises.
            targets: ``sinkhorn`` uses all prototypes equally over the global batch;
                ``centre`` subtracts a running mean (arXiv:2104.14294).
            centre_momentum: Of that mean.
            patch_weight: Of the masked patches' loss.
            koleo_weight: Of the regulariser that spreads class tokens, for each large view.
            momentum: Of the teacher at the beginning; it rises to 1.
        """

        vit: VitRegisters.Config = VitRegisters.Config(width=192, layers=4, heads=3, patch=4)
        augmentation: Annotated[core.Config, AUGMENTATIONS] = CropColour.Config()
        local_crops: int = Field(default=4, ge=0, le=12)
        local_area: tuple[float, float] = (0.1, 0.4)
        local_resolution: float = Field(default=0.5, gt=0, le=1)
        masked: float = Field(default=0.3, gt=0, lt=1)
        hidden: int = 512
        projection: int = 256
        prototypes: int = 256
        temperature: float = Field(default=0.1, gt=0)
        teacher_temperature: tuple[float, float] = (0.04, 0.07)
        warmup: float = Field(default=0.3, gt=0, le=1)
        targets: Literal["sinkhorn", "centre"] = "sinkhorn"
        centre_momentum: float = Field(default=0.9, ge=0, le=1)
        patch_weight: float = 1.0
        koleo_weight: float = 0.1
        momentum: float = 0.99

    progress: Tensor
    class_centre: Tensor
    patch_centre: Tensor

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        self.views = two_views(config.augmentation)
        self._config = config
        side, rest = divmod(surroundings.size, config.vit.patch)
        self._patches = side * side
        self._masked = round(config.masked * self._patches)
        if rest or not 0 < self._masked < self._patches:
            raise ConfigError(
                f"objective.vit.patch: {config.vit.patch} does not split an image of "
                f"{surroundings.size} pixels into patches of which some are masked"
            )
        self._local_side = config.vit.patch * max(1, round(config.local_resolution * side))
        self.student = Branch(config, surroundings)
        self.teacher = Teacher(self.student)
        # In the state: a resumed run goes on with the temperature and centres it had.
        self.register_buffer("progress", torch.zeros(1))
        self.register_buffer("class_centre", torch.zeros(config.prototypes))
        self.register_buffer("patch_centre", torch.zeros(config.prototypes))
        self._means: tuple[Tensor, Tensor] | None = None

    def encode(self, batch: Batch) -> Rows:
        """The student's views of an image [B, V, D], and its masked patches [B, M, D]."""
        large, (which, places) = _large(batch), self._hidden(batch.keys)
        mask = torch.zeros(len(large), self._patches, dtype=torch.bool, device=large.device)
        mask[which[:, None], places] = True
        seen = self.student.tower.tokens(large, mask)
        images = seen.image
        if self._config.local_crops:
            images = torch.cat([images, self.student.tower.tokens(self.local_views(batch)).image])
        return {
            "views": images.reshape(-1, len(batch), images.shape[1]).transpose(0, 1),
            "patches": seen.patches[which[:, None], places],
        }

    def targets(self, batch: Batch) -> Rows:
        """The teacher's large views [B, 2, D], and the masked patches [B, M, D]."""
        seen = self._teaching.tower.tokens(_large(batch))
        which, places = self._hidden(batch.keys)
        return {
            "teacher_views": seen.image.reshape(2, len(batch), -1).transpose(0, 1),
            "teacher_patches": seen.patches[which[:, None], places],
        }

    def compare(self, rows: Rows, batch: Batch) -> LossOutput:
        """Compare all views with the teacher's large ones, and masked patches with its patches."""
        class_targets, patch_targets = self._shares(rows)
        views = rows["views"].transpose(0, 1)
        scores = self.student.class_head(views.flatten(0, 1)).view(-1, *class_targets.shape[1:])
        patch_scores = self.student.patch_head(rows["patches"].flatten(0, 1))
        patch_scores = patch_scores.view_as(patch_targets)

        parts = {
            "class": losses.class_loss(scores, class_targets, self._config.temperature),
            "patch": losses.patch_loss(patch_scores, patch_targets, self._config.temperature),
            "koleo": torch.stack([losses.koleo(view) for view in views[:2]]).sum(),
        }
        loss = (
            parts["class"]
            + self._config.patch_weight * parts["patch"]
            + self._config.koleo_weight * parts["koleo"]
        )
        metrics = {name: value.detach() for name, value in parts.items()}
        metrics["entropy"] = losses.entropy(class_targets)
        metrics["floor"] = metrics["entropy"] + self._config.patch_weight * losses.entropy(
            patch_targets
        )
        return LossOutput(loss, metrics)

    def after_step(self, progress: float) -> None:
        """Let the teacher, its temperature and the centres follow."""
        self.teacher.update(self.student, rising(self._config.momentum, progress))
        self.progress.fill_(progress)
        if self._means is not None:
            for centre, mean in zip(
                (self.class_centre, self.patch_centre), self._means, strict=True
            ):
                losses.update_centre(centre, mean, self._config.centre_momentum)
            self._means = None

    def encoders(self) -> Mapping[str, nn.Module]:
        """The teacher's tower, as in the paper; heads and student are thrown away."""
        return {"image": self._teaching.tower}

    def temperature(self) -> Tensor:
        """The teacher's, by progress. [1]."""
        start, end = self._config.teacher_temperature
        return start + (end - start) * (self.progress / self._config.warmup).clamp(max=1)

    def local_views(self, batch: Batch) -> Tensor:
        """Small views, cut out of both large ones in turn. [local_crops * B, 3, side, side]."""
        side, area = self._local_side, self._config.local_area
        crops = [
            cut_out(batch.views["ab"[number % 2]], batch.keys, _LOCAL + number, side, area)
            for number in range(self._config.local_crops)
        ]
        return torch.cat(crops)

    def pictures(self, images: Tensor) -> Mapping[str, Tensor]:
        """The teacher's patches, coloured by their principal components."""
        return {"patches by principal components": self._teaching.tower.components(images)}

    @property
    def _teaching(self) -> Branch:
        return cast(Branch, self.teacher.module)

    def _hidden(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Which of the 2B large views are masked [B], and where [B, M], by the keys."""
        rows = torch.arange(len(keys), device=keys.device) + len(keys) * integers(keys, _WHICH, 2)
        order = uniform(keys, _PLACES, self._patches).argsort(dim=1, stable=True)
        return rows, order[:, : self._masked]

    @torch.no_grad()
    def _shares(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """The teacher's shares for large views [2, B, K] and for masked patches [B, M, K]."""
        views, hidden = rows["teacher_views"].transpose(0, 1), rows["teacher_patches"]
        image = self._teaching.class_head(views.flatten(0, 1))
        patch = self._teaching.patch_head(hidden.flatten(0, 1))
        temperature = self.temperature()
        if self._config.targets == "centre":
            self._means = losses.batch_centre(image), losses.batch_centre(patch)
            image = losses.centred(image, self.class_centre, temperature)
            patch = losses.centred(patch, self.patch_centre, temperature)
        else:
            image = sinkhorn(image / temperature, 1.0, _ITERATIONS)
            patch = sinkhorn(patch / temperature, 1.0, _ITERATIONS)
        return image.view(*views.shape[:2], -1), patch.view(*hidden.shape[:2], -1)


class Branch(nn.Module):
    """What student and teacher both have: the tower, and a head for images and one for patches."""

    def __init__(self, config: Dinov2.Config, surroundings: Surroundings):
        super().__init__()
        self.tower = VitRegisters(config.vit, surroundings)
        self.class_head, self.patch_head = (
            nn.Sequential(
                mlp(config.vit.width, config.hidden, config.projection, layers=3),
                Prototypes(config.projection, config.prototypes),
            )
            for _ in range(2)
        )


def _large(batch: Batch) -> Tensor:
    return torch.cat([batch.views["a"], batch.views["b"]])


def cut_out(
    images: Tensor, keys: Tensor, stream: int, side: int, area: tuple[float, float]
) -> Tensor:
    """Cut a square out of each image, by its key, and resample it to a side in pixels.

    Args:
        images: [B, 3, H, W]
        keys: Keys of the samples. [B] int64
        stream: Of random numbers.
        side: Of the result.
        area: Range of the square's share of the image.

    Returns:
        [B, 3, side, side]
    """
    u = uniform(keys, stream, 3).to(images.dtype)
    scale = (area[0] + (area[1] - area[0]) * u[:, :1]).sqrt()
    shift = (1 - scale) * (2 * u[:, 1:] - 1)
    # Element by element: under autocast the library's grid, a product, has steps of 2^-8.
    centres = (2 * torch.arange(side, device=images.device, dtype=images.dtype) + 1) / side - 1
    x, y = scale * centres + shift[:, :1], scale * centres + shift[:, 1:]  # [B, side] each
    grid = torch.stack([x[:, None, :].expand(-1, side, -1), y[:, :, None].expand(-1, -1, side)], -1)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
