"""Contract of views."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from torch import Tensor

from pipelines.core import Config
from pipelines.views.rows import Rows


class View(Config, ABC):
    """What an objective wants of each sample."""

    @abstractmethod
    def maker(self) -> Callable[[Rows], Tensor]:
        """Prepare once what every table needs.

        Returns:
            Makes the view of a table's rows. [B, ...]; raises a ``ConfigError``
            where the recipe does not decode what the view is made of.
        """


ViewSpec = Mapping[str, View]
