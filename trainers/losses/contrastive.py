"""Contrastive losses over the global batch. B local rows, G rows of all workers, D dimensions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.core.collective import world
from trainers.losses.gather import gather
from trainers.losses.mean import global_mean
from trainers.losses.precision import product, wide


def nt_xent(
    a: Tensor, b: Tensor, temperature: float, samples: Tensor, usable: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised temperature-scaled cross-entropy (Chen et al., 2020, arXiv:2002.05709).

    ``l_ij = -log(exp(sim(z_i, z_j)/t) / sum_{k != i} exp(sim(z_i, z_k)/t))``
    averaged over both directions of every pair, k over all 2G views but those of the same
    sample: where a batch has one several times, its pairs neither attract nor repel each other.

    Args:
        a: First view's projections, any length. [B, D]
        b: Second view's projections. [B, D]
        temperature: t.
        samples: Equal numbers for pairs of the same sample. [B] int64
        usable: Pairs that count, to others as well; None for all. [B] bool

    Returns:
        Local mean of the loss [], the share of pairs whose other view is nearest [], and what
        that is of a guesser []; such that means over workers are those of all pairs that count.
    """
    a, b = F.normalize(wide(a), dim=1), F.normalize(wide(b), dim=1)
    all_a, all_b = gather(a), gather(b)
    rows, total = len(a), len(all_a)
    place = torch.arange(rows, device=a.device) + world()[0] * rows
    other = torch.cat([place + total, place])
    hidden = (samples[:, None] == gather(samples)).repeat(2, 2)  # [2B, 2G]
    hidden = hidden.scatter(1, other[:, None], False)
    mine = None
    if usable is not None:
        mine, everyone = usable.repeat(2), gather(usable.long()).bool().repeat(2)
        # Rows that do not count keep their logits: without any, their gradient would be no number.
        hidden = hidden | (mine[:, None] & ~everyone)
    logits = product(torch.cat([a, b]), torch.cat([all_a, all_b]).T) / temperature
    logits = logits.masked_fill(hidden, float("-inf"))
    losses = F.cross_entropy(logits, other, reduction="none")
    right = (logits.detach().argmax(1) == other).to(losses.dtype)
    chance = 1 / (~hidden).sum(1).to(losses.dtype)
    if mine is None:
        return losses.mean(), right.mean(), chance.mean()
    kept = (each.masked_fill(~mine, 0).sum() for each in (losses, right, chance))
    loss, found, guessed = (global_mean(each, mine.sum()) for each in kept)
    return loss, found, guessed


def image_text(
    images: Tensor, texts: Tensor, scale: Tensor, identities: Tensor, samples: Tensor
) -> tuple[Tensor, Tensor]:
    """Symmetric image-text loss (Radford et al., 2021, arXiv:2103.00020) with shared captions.

    Where several images of the global batch have the same caption, all of
    them are positives with equal weight (Yang et al., 2022, UniCL, arXiv:2204.03610);
    so are all captions of a sample that the batch has several times.

    Args:
        images: Image embeddings, any length. [B, D]
        texts: Text embeddings, any length. [B, D]
        scale: Factor of the cosines. [1]
        identities: Equal numbers for equal captions. [B] int64
        samples: Equal numbers for rows of the same sample. [B] int64

    Returns:
        Local mean of the loss [], and the share of images whose nearest caption is theirs [].
    """
    images, texts = F.normalize(wide(images), dim=1), F.normalize(wide(texts), dim=1)
    all_images, all_texts = gather(images), gather(texts)
    same = identities[:, None] == gather(identities)  # [B, G]
    same |= samples[:, None] == gather(samples)
    positive = same.to(images.dtype)
    target = positive / positive.sum(1, keepdim=True)
    by_image = product(scale * images, all_texts.T)
    by_text = product(scale * texts, all_images.T)
    loss = (_soft_cross_entropy(by_image, target) + _soft_cross_entropy(by_text, target)) / 2
    nearest = by_image.detach().argmax(1, keepdim=True)
    return loss, positive.gather(1, nearest).mean()


def _soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return -(target * F.log_softmax(logits, dim=1)).sum(1).mean()
