"""Cross-entropy over tokens of the global batch. B texts, N tokens, V vocabulary."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.losses.counts import counted
from trainers.losses.gather import gather
from trainers.losses.mean import global_mean
from trainers.losses.precision import wide


def token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over the tokens of the global batch, however they are spread over texts and workers.

    Args:
        logits: Of this worker's tokens. [N, V]
        targets: Which ones they are. [N] int64

    Returns:
        Such that the mean over workers is that of the global batch. []
    """
    total = F.cross_entropy(wide(logits), targets, reduction="sum")
    return global_mean(total, torch.full((), len(targets), device=logits.device))


@torch.no_grad()
def answers(logits: Tensor, targets: Tensor, counts: Tensor) -> dict[str, Tensor]:
    """Say how many tokens are right.

    Args:
        logits: Of this worker's tokens. [N, V]
        targets: Which ones they are. [N] int64
        counts: How many of them each text has. [B] int64

    Returns:
        ``accuracy``; ``chance``, that of always the token which the global batch has most often;
        ``answers``, the tokens of a text; ``usable``, the share of texts that have one.
    """
    right = (logits.argmax(1) == targets).to(wide(logits).dtype).sum()
    often = gather(counted(targets, logits.shape[1])[None]).sum(0)
    return {
        "accuracy": global_mean(right, counts.sum()),
        "chance": often.max() / often.sum().clamp(min=1),
        "answers": counts.to(right.dtype).mean(),
        "usable": (counts > 0).to(right.dtype).mean(),
    }
