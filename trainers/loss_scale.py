"""The scale of an fp16 loss, found while training."""

from __future__ import annotations

from torch import Tensor

_FIRST = 2.0**16
_PATIENCE = 2000  # updates without an overflow after which a larger scale is tried


class LossScale:
    """Halved where a gradient overflows, doubled after long without (arXiv:1710.03740).

    It has the attributes that DeepSpeed's optimizers ask of a scaler. They call
    ``update_scale`` before they divide by the scale, so that it changes nothing; ``settle`` does.
    """

    dynamic = True

    def __init__(self) -> None:
        self.cur_scale = _FIRST
        self._since = 0

    def scale_loss(self, loss: Tensor) -> Tensor:
        """Multiply by the scale."""
        return loss * self.cur_scale

    def update_scale(self, overflow: bool) -> None:
        """Do nothing: the step is not over."""

    def settle(self, overflow: bool) -> None:
        """Adapt the scale once a step is over; it never falls below 1."""
        self._since = 0 if overflow else self._since + 1
        if overflow:
            self.cur_scale = max(1.0, self.cur_scale / 2)
        elif self._since == _PATIENCE:
            self.cur_scale *= 2
            self._since = 0

    @property
    def state(self) -> tuple[float, float]:
        """The scale, and the updates since it changed or overflowed."""
        return self.cur_scale, float(self._since)

    @state.setter
    def state(self, state: tuple[float, float]) -> None:
        self.cur_scale, self._since = state[0], int(state[1])
