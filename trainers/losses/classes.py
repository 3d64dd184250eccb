"""Cross-entropy over the samples of the global batch that can be classified.

B samples, A answers of each, C classes.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from trainers.core.objective import LossOutput
from trainers.losses.mean import global_mean
from trainers.losses.precision import wide


def class_loss(logits: Tensor, labels: Tensor, usable: Tensor) -> LossOutput:
    """Mean over usable samples, however they are spread over workers.

    Args:
        logits: Of this worker's samples. [B, C], or [B, A, C]
        labels: Which classes they are. [B] int64, or [B, A]
        usable: Which samples count. [B] bool

    Returns:
        The loss, 0 where no sample is usable; ``accuracy`` of each sample's first answer, as its
        others would count it again, and ``usable``, the share of samples that count.
    """
    exact = wide(logits).flatten(0, -2)
    losses = F.cross_entropy(exact, labels.flatten(), reduction="none")
    right = exact.detach().argmax(1) == labels.flatten()
    losses, right = (values.view(len(usable), -1) for values in (losses, right))
    counted = usable.to(losses.dtype)
    metrics = {
        "accuracy": global_mean((right[:, 0] * counted).sum(), counted.sum()),
        "usable": counted.mean(),
    }
    return LossOutput(global_mean((losses.mean(1) * counted).sum(), counted.sum()), metrics)
