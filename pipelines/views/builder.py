"""A batch of views from a table."""

from __future__ import annotations

import pyarrow as pa
import torch

from pipelines.core import ConfigError
from pipelines.core.batch import Batch
from pipelines.core.randomness import repeat_keys, sample_keys
from pipelines.decode.tokenizer import Tokenizer
from pipelines.views.image import IMAGES, ImageView
from pipelines.views.rows import Rows
from pipelines.views.upload import upload
from pipelines.views.view import ViewSpec


class ViewBuilder:
    """Builds the views of an objective.

    Args:
        spec: Views by name.
        seed: The run's seed.
        size: Side of the stored images, in pixels; None without images.
        tokenizer: Needed where a view is a text.
        device: Where to augment: the training device.
        repeats: Times that each sample is in a batch, one after the other, each with random
            numbers of its own.
    """

    def __init__(
        self,
        spec: ViewSpec,
        seed: int,
        size: int | None,
        tokenizer: Tokenizer | None,
        device: torch.device,
        repeats: int = 1,
    ):
        self._seed, self._tokenizer, self._device = seed, tokenizer, device
        self._repeats = repeats
        self._lacks = size is None and any(isinstance(view, ImageView) for view in spec.values())
        self._makers = {name: view.maker() for name, view in spec.items()}

    @torch.no_grad()
    def __call__(self, table: pa.Table) -> Batch:
        """Build one worker's batch from its table."""
        if self._lacks:
            raise ConfigError(f"this objective needs {IMAGES}")
        samples = torch.from_numpy(table["sample"].to_numpy().copy())
        epochs = torch.from_numpy(table["epoch"].to_numpy().copy())
        keys = repeat_keys(sample_keys(self._seed, epochs, samples), self._repeats)
        rows = Rows(table, keys, self._tokenizer, self._device)
        views = {name: make(rows) for name, make in self._makers.items()}
        numbers = upload(samples.repeat_interleave(self._repeats).numpy(), self._device)
        return Batch(numbers, rows.device_keys, views)
