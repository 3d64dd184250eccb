"""A table's rows on the training device."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from pipelines.core import ConfigError, nearest
from pipelines.core.fused import fused
from pipelines.core.randomness import uniform
from pipelines.decode.tokenizer import Tokenizer
from pipelines.tables import array
from pipelines.views.upload import upload

# Stream of the numbers that choose among several captions, after those of views and decoders.
_CHOICE = 4097


@fused
def normalise(images: Tensor) -> Tensor:
    """Pixels in [0, 1] to [-1, 1] in float32, what every tower expects."""
    return images.to(torch.float32).mul(2.0).sub_(1.0).contiguous()


@fused
def pixels(images: Tensor) -> Tensor:
    """Stored pixels to what augmentations expect. [B, H, W, 3] uint8 -> [B, 3, H, W] in [0, 1]."""
    return images.permute(0, 3, 1, 2).to(torch.float32).div_(255.0).contiguous()


class Rows:
    """What views are made of: each of a table's T rows several times, B in all, side by side.

    What several views are made of is made once.

    Args:
        table: Decoded samples.
        keys: A random key for each time that a row is there, on the CPU. [T, R] int64
        tokenizer: Needed for token ids.
        device: The training device.

    Attributes:
        keys: Random keys, on the CPU. [B] int64
        device_keys: The same, on the training device. [B] int64
        device: The training device.
    """

    def __init__(
        self, table: pa.Table, keys: Tensor, tokenizer: Tokenizer | None, device: torch.device
    ):
        self._table, self._tokenizer = table, tokenizer
        self.device, self._repeats = device, keys.shape[1]
        self.keys = keys.flatten()
        self.device_keys = upload(self.keys.numpy(), device)
        self._made: dict[str, Tensor] = {}

    @property
    def places(self) -> Tensor:
        """The row of the table that each is, on the training device. [B] int64."""
        rows = torch.arange(self._table.num_rows, device=self.device)
        return rows.repeat_interleave(self._repeats)

    def repeated(self, stored: Tensor) -> Tensor:
        """What the table's rows have, as often as they are there. [T, ...] -> [B, ...]."""
        return stored if self._repeats == 1 else stored.repeat_interleave(self._repeats, 0)

    def once(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """Return what was made under a name, which nobody changes, or make it."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def column(self, name: str, dtype: npt.DTypeLike, needs: str) -> Tensor:
        """Copy an array column to the device.

        Args:
            name: Of the column.
            dtype: Of its numbers.
            needs: What to say where there is none: "images: set data.decode.size".

        Returns:
            The numbers of each row of the table, side by side. [T, N]
        """
        if name not in self._table.column_names:
            raise ConfigError(f"this objective needs {needs}")
        numbers = self._table.schema.field(name).type.list_size
        stored = array(self._table, name, {name: ((numbers,), np.dtype(dtype))})
        return upload(stored, self.device)

    def pictures(self, name: str, count: int, needs: str) -> Tensor:
        """Copy a column of square pictures to the device.

        Args:
            name: Of the column.
            count: How many pictures a row has.
            needs: What to say where there is none.

        Returns:
            [T, count, S, S, 3] uint8
        """
        stored = self.column(name, np.uint8, needs)
        side = math.isqrt(stored.shape[1] // (3 * count))
        return stored.view(-1, count, side, side, 3)

    def texts(self, field: str) -> list[str]:
        """A text of each row: where it has several, one at random, in another epoch another one."""
        name = f"text.{field}"
        if name not in self._table.column_names:
            have = [c[len("text.") :] for c in self._table.column_names if c.startswith("text.")]
            raise ConfigError(
                f"no text field '{field}' in data.decode.text; {nearest(field, have)}"
            )
        stored: list[str | list[str]] = self._table[name].to_pylist()
        texts = [text for text in stored for _ in range(self._repeats)]
        draws = uniform(self.keys, _CHOICE, 1)[:, 0].tolist()
        return [
            text if isinstance(text, str) else text[int(draw * len(text))] if text else ""
            for text, draw in zip(texts, draws, strict=True)
        ]

    def readings(self, texts: list[str]) -> list[bytes]:
        """What the tokenizer reads of texts; all of them without one."""
        if self._tokenizer is None:
            return [text.encode() for text in texts]
        return [row.tobytes() for row in self._tokenizer.encode(texts)]

    def tokens(self, texts: list[str], pieces: Tensor | None = None) -> Tensor:
        """Token ids of texts, or of pieces of long ones, see ``Tokenizer``. [B, L] int64."""
        if self._tokenizer is None:
            raise ConfigError("this objective needs a tokenizer")
        chosen = None if pieces is None else pieces.numpy()
        return upload(self._tokenizer.encode(texts, chosen), self.device)
