"""Tables of samples to the views that an objective asks for, on the training device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipelines.augment import AUGMENTATIONS
from pipelines.core import ConfigError, nearest
from pipelines.core.batch import Batch, IdentityView, ImageView, TextView, ViewSpec
from pipelines.core.randomness import sample_keys, uniform
from pipelines.decode.tokenizer import Tokenizer
from pipelines.tables import array

_CHOICE = 2048  # stream of the numbers that choose among several captions


def normalise(images: Tensor) -> Tensor:
    """Pixels in [0, 1] to [-1, 1], what every tower expects."""
    return images.mul(2.0).sub_(1.0)


def pixels(images: Tensor) -> Tensor:
    """Stored pixels to what augmentations expect. [B, H, W, 3] uint8 -> [B, 3, H, W] in [0, 1]."""
    return images.permute(0, 3, 1, 2).to(torch.float32).div_(255.0).contiguous()


class ViewBuilder:
    """Builds the views of an objective.

    Args:
        spec: Views by name.
        seed: The run's seed.
        size: Side of the stored images, in pixels.
        tokenizer: Needed where a view is a text.
        device: Where to augment: the training device.
    """

    def __init__(
        self,
        spec: ViewSpec,
        seed: int,
        size: int | None,
        tokenizer: Tokenizer | None,
        device: torch.device,
    ):
        self._spec, self._seed, self._size = spec, seed, size
        self._tokenizer, self._device = tokenizer, device
        self._augment: Mapping[str, Callable[[Tensor, Tensor, int], Tensor]] = {
            name: AUGMENTATIONS.build(view.augmentation)
            for name, view in spec.items()
            if isinstance(view, ImageView)
        }

    @torch.no_grad()
    def __call__(self, table: pa.Table) -> Batch:
        """Build one worker's batch from its table."""
        samples = torch.from_numpy(table["sample"].to_numpy().copy())
        epochs = torch.from_numpy(table["epoch"].to_numpy().copy())
        keys = sample_keys(self._seed, epochs, samples)
        device_keys = keys.to(self._device)
        images = self._images(table) if self._augment else None
        views = {}
        for name, view in self._spec.items():
            if isinstance(view, ImageView) and images is not None:
                augmented = self._augment[name](images, device_keys, 16 + view.stream)
                views[name] = normalise(augmented)
            elif isinstance(view, TextView):
                views[name] = self._tokens(table, view, keys).to(self._device)
            elif isinstance(view, IdentityView):
                views[name] = _identities(_texts(table, view.field, keys)).to(self._device)
        return Batch(samples.to(self._device), device_keys, views)

    def _images(self, table: pa.Table) -> Tensor:
        if "image" not in table.column_names or self._size is None:
            raise ConfigError("this objective needs images: set data.decode.size")
        shape = (self._size, self._size, 3), np.dtype(np.uint8)
        stored = torch.from_numpy(array(table, "image", {"image": shape}).copy())
        return pixels(stored.to(self._device, non_blocking=True))

    def _tokens(self, table: pa.Table, view: TextView, keys: Tensor) -> Tensor:
        if self._tokenizer is None:
            raise ConfigError("this objective needs a tokenizer")
        extras = _texts(table, view.extras, keys) if view.extras else None
        texts = _texts(table, view.field, keys)
        return torch.from_numpy(self._tokenizer.encode(compose(texts, extras, view, keys)))


def compose(
    texts: Sequence[str], extras: Sequence[str] | None, view: TextView, keys: Tensor
) -> list[str]:
    """Put every text into a template, at random with one of its extra phrases.

    Args:
        texts: B texts.
        extras: B comma-separated lists of phrases, or None.
        view: Templates and probabilities.
        keys: Keys of the samples. [B] int64
    """
    draws = uniform(keys, 1024 + view.stream, 3).tolist()
    composed = []
    for place, (text, (pick, chance, which)) in enumerate(zip(texts, draws, strict=True)):
        phrases = [p for p in extras[place].split(", ") if p] if extras else []
        if phrases and chance < view.extras_probability:
            text = f"{text}, {phrases[int(which * len(phrases))]}"
        composed.append(view.templates[int(pick * len(view.templates))].replace("{}", text))
    return composed


def _texts(table: pa.Table, field: str, keys: Tensor) -> list[str]:
    """A text of each row: where it has several, one at random, in another epoch another one."""
    name = f"text.{field}"
    if name not in table.column_names:
        have = [c.removeprefix("text.") for c in table.column_names if c.startswith("text.")]
        raise ConfigError(f"no text field '{field}' in data.decode.text; {nearest(field, have)}")
    texts: list[str | list[str]] = table[name].to_pylist()
    draws = uniform(keys, _CHOICE, 1)[:, 0].tolist()
    return [
        text if isinstance(text, str) else text[int(draw * len(text))] if text else ""
        for text, draw in zip(texts, draws, strict=True)
    ]


def _identities(texts: Sequence[str]) -> Tensor:
    digests = b"".join(hashlib.blake2b(t.encode(), digest_size=8).digest() for t in texts)
    return torch.from_numpy(np.frombuffer(digests, dtype=np.int64).copy())
