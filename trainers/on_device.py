"""A model that evaluations use on a device, or on the CPU where a device has no room for it."""

from __future__ import annotations

import gc
import logging

import torch

from pipelines.core import Config
from trainers.checkpoint import Commit
from trainers.core.evaluation import EvaluationResult
from trainers.evaluate import Opened, evaluate
from trainers.model import Model, load_model

_log = logging.getLogger(__name__)
_FULL = ("out of memory", "ALLOC_FAILED")


class OnDevice:
    """Evaluates a commit, on a GPU as long as there is room.

    Args:
        commit: The commit.
        device: Where to compute.
        fallback: For indexes of data sets that are read-only; None keeps them in memory.
    """

    def __init__(self, commit: Commit, device: torch.device, fallback: str | None = None):
        self._commit, self._device = commit, device
        self._model: Model | None = None
        self._fallback, self._opened = fallback, Opened(fallback)

    def evaluated(self, config: Config) -> EvaluationResult:
        """Run an evaluation."""
        try:
            return self._evaluated(config)
        except RuntimeError as error:  # others may have the rest of a GPU
            if self._device.type == "cpu" or not full(error):
                raise
        # Here and not in the handler, which would hold what did not fit.
        _log.warning("no room on %s; on the CPU from here on", self._device)
        self._model, self._device = None, torch.device("cpu")
        gc.collect()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()
        return self._evaluated(config)

    def _evaluated(self, config: Config) -> EvaluationResult:
        if self._device.type == "cuda" and self._device.index is not None:
            torch.cuda.set_device(self._device)
        if self._model is None:
            self._model = load_model(self._commit, self._device, self._fallback)
        return evaluate(self._model, self._commit, config, self._opened)


def full(error: RuntimeError) -> bool:
    """Whether a device has no room: for a tensor, for its libraries, or for a process at all."""
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in _FULL)
