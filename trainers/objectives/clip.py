"""Images and their captions in one space."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

import torch
from torch import nn

from pipelines import core
from pipelines.augment import AUGMENTATIONS
from pipelines.augment.crop_colour import CropColour
from pipelines.core.batch import Batch
from pipelines.views import IdentityView, ImageView, TextView
from trainers.core.objective import ComparingObjective, LossOutput, Rows, Surroundings
from trainers.losses.capped import capped_exp
from trainers.losses.contrastive import image_text
from trainers.models import TOWERS
from trainers.models.bag_of_tokens import BagOfTokens
from trainers.models.convnext import ConvNext

_LARGEST_SCALE = 100.0  # as in the paper: keeps training stable


class Clip(ComparingObjective):
    """Two towers, a learned logit scale and a symmetric loss (arXiv:2103.00020)."""

    class Config(core.Config):
        """Towers, views and the joint space.

        Attributes:
            image: Image tower.
            text: Text tower.
            augmentation: Of the images.
            caption: The captions' field, templates and extra phrases.
            dimensions: Of the joint space.
            initial_scale: Of the logits.
        """

        image: Annotated[core.Config, TOWERS] = ConvNext.Config()
        text: Annotated[core.Config, TOWERS] = BagOfTokens.Config()
        augmentation: Annotated[core.Config, AUGMENTATIONS] = CropColour.Config(flip=0.0)
        caption: TextView = TextView()
        dimensions: int = 256
        initial_scale: float = 1 / 0.07

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        if not surroundings.vocabulary:
            raise core.ConfigError("the clip objective needs captions: set data.decode.text")
        caption = config.caption
        self.views = {
            "image": ImageView(augmentation=config.augmentation),
            "text": caption,
            "identity": IdentityView(
                field=caption.field, templates=caption.templates, piece=caption.piece
            ),
        }
        image = TOWERS.build(config.image, surroundings)
        text = TOWERS.build(config.text, surroundings)
        self.image = nn.Sequential(image, nn.Linear(image.width, config.dimensions, bias=False))
        self.text = nn.Sequential(text, nn.Linear(text.width, config.dimensions, bias=False))
        # One dimension, not none: the engine cannot flatten a parameter without any.
        self.log_scale = nn.Parameter(torch.full((1,), math.log(config.initial_scale)))

    def encode(self, batch: Batch) -> Rows:
        """Embeddings of images and captions."""
        return {
            "image": self.image(batch.views["image"]),
            "text": self.text(batch.views["text"]),
        }

    def compare(self, rows: Rows, batch: Batch) -> LossOutput:
        """Match every image of the global batch with its caption."""
        scale = capped_exp(self.log_scale, _LARGEST_SCALE)
        loss, found = image_text(
            rows["image"], rows["text"], scale, batch.views["identity"], batch.samples
        )
        return LossOutput(loss, {"accuracy": found, "logit_scale": scale.detach()[0]})

    def encoders(self) -> Mapping[str, nn.Module]:
        """Both towers, and the joint space's embeddings."""
        return {
            "image": self.image[0],
            "image_embedding": self.image,
            "text_embedding": self.text,
        }
