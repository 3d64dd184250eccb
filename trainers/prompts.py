"""Captions put into templates. C captions, D dimensions."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.core.evaluation import Encoders
from trainers.neighbours import finite


def told_apart(model: Encoders, captions: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Captions as a model reads them: of those that it reads alike all are the first by name.

    Capitals, and what is cut off at the end, make no other class for it.
    """
    names = sorted(set(captions))
    filled = [[template.replace("{}", name) for name in names] for template in templates]
    read = zip(*(model.readings(texts) for texts in filled), strict=True)
    first: dict[tuple[Hashable, ...], str] = {}
    same = {name: first.setdefault(key, name) for name, key in zip(names, read, strict=True)}
    return [same[caption] for caption in captions]


def embed_captions(model: Encoders, captions: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Embed captions: the mean over templates of unit embeddings, of unit length again.

    Prompt ensembling of Radford et al., 2021 (CLIP, arXiv:2103.00020), section 3.1.4.

    Returns:
        [C, D], of unit length.

    Raises:
        UserError: The model has no text tower, or its outputs are not finite.
    """
    # Not str.format: a caption or template may have braces of its own.
    filled = [[template.replace("{}", caption) for caption in captions] for template in templates]
    embeddings = [F.normalize(finite(model.embed_texts(texts)), dim=1) for texts in filled]
    return F.normalize(torch.stack(embeddings).mean(0), dim=1)
