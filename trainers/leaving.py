"""Leaving in time: a run that is asked to stop commits first, all workers after the same step."""

from __future__ import annotations

from collections.abc import Callable

import torch

from trainers.core.engine import Engine
from trainers.core.later import Later


class Leaving:
    """Lets workers agree on the step after which they leave.

    Each may be asked at another moment, and those that go on would wait for ever for one that
    left: so every worker calls ``agreed`` after every step, and all get the same answer.

    Args:
        engine: Averages over workers.
        asked: Whether this worker has been asked; called once a step, so it must be quick.
    """

    def __init__(self, engine: Engine, asked: Callable[[], bool]):
        self._engine, self._asked = engine, asked
        self._before: Later | None = None

    def agreed(self) -> bool:
        """Whether all leave now: one of them had been asked by the step before this one.

        A device is waited for until it has done that step, so that its queue holds at most
        one step more.
        """
        wishes = torch.full((1,), float(self._asked()), device=self._engine.device)
        # The last step's sum is there already; waiting for this one's would stop the device.
        before, self._before = self._before, Later(self._engine.mean(wishes))
        return before is not None and before.number() > 0
