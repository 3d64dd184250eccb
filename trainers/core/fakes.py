"""Fakes that users of evaluations test with. N images or texts, D dimensions."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.core import Config, DataError, UserError
from trainers.core.evaluation import Answers, EvaluationData, Texts


class FakeEncoders:
    """A model with a planted signal; implements ``Encoders``, always with the same numbers.

    A text that contains a known caption gets that caption's random direction.
    A picture gets its caption's direction and a direction of its own, which
    depends on its pixels, in the proportion ``signal``. So 1 makes a perfect
    model and 0 one that knows nothing. A picture that is not known gets a
    random projection of its mean colour in place of the caption's direction.

    Args:
        known: Data sets whose pictures and captions it knows.
        field: Their text field with the captions.
        signal: Share of the caption in a picture's embedding, in [0, 1].
        joint: Whether there is a joint space; else only ``features`` works.
        dimensions: D.
        seed: Of all random directions.
    """

    def __init__(
        self,
        *known: EvaluationData,
        field: str = "txt",
        signal: float = 1.0,
        joint: bool = True,
        dimensions: int = 64,
        seed: int = 0,
    ):
        self._captions = {
            image.tobytes(): text
            for data in known
            for image, text in zip(data.images, data.texts[field], strict=True)
        }
        self._longest_first = sorted(set(self._captions.values()), key=lambda t: (-len(t), t))
        self._signal, self._joint = signal, joint
        self._dimensions, self._seed = dimensions, seed

    def features(self, images: npt.NDArray[np.uint8]) -> Tensor:
        """Features, not of unit length. [N, H, W, 3] -> [N, D]."""
        return 3 * torch.stack([self._picture(image) for image in images])

    def pictures(self, images: npt.NDArray[np.uint8]) -> Mapping[str, npt.NDArray[np.uint8]]:
        """It has nothing to show."""
        del images
        return {}

    def embed_images(self, images: npt.NDArray[np.uint8]) -> Tensor:
        """Images in the joint space. [N, H, W, 3] -> [N, D], of unit length.

        Raises:
            UserError: Made with ``joint=False``.
        """
        if not self._joint:
            raise UserError("the fake model has no joint space of images and texts")
        return torch.stack([self._picture(image) for image in images])

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Texts in the joint space. N texts -> [N, D], of unit length.

        Raises:
            UserError: Made with ``joint=False``.
        """
        if not self._joint:
            raise UserError("the fake model has no text tower")
        return torch.stack([self._text(text) for text in texts])

    def readings(self, texts: Sequence[str]) -> Sequence[Hashable]:
        """All of every text."""
        return texts

    def films(self, data: Config, label: str, samples: int) -> tuple[Tensor, Sequence[str]]:
        """Films whose labels take turns: ``concept 0`` to ``concept 3``."""
        name = data.model_dump_json() + label
        texts = [f"concept {place % 4}" for place in range(samples)]
        own = [self._direction(f"film {name} {place}".encode()) for place in range(samples)]
        meanings = torch.stack([self._text(text) for text in texts])
        mixed = self._signal * meanings + (1 - self._signal) * torch.stack(own)
        return mixed, texts

    def proxy(self, data: Config, samples: int, seed: int) -> Answers:
        """A task of four classes: a share ``signal`` is known, the rest guessed."""
        del data, seed
        known = round(self._signal * samples)
        return Answers(known + (samples - known) // 4, samples, 1 / 4, samples)

    def _picture(self, image: npt.NDArray[np.uint8]) -> Tensor:
        data = image.tobytes()
        caption = self._captions.get(data)
        meaning = self._colour(image) if caption is None else self._text(caption)
        mixed = self._signal * meaning + (1 - self._signal) * self._direction(b"image" + data)
        return F.normalize(mixed, dim=0)

    def _text(self, text: str) -> Tensor:
        inside = next((known for known in self._longest_first if known in text), text)
        return self._direction(b"text" + inside.encode())

    def _colour(self, image: npt.NDArray[np.uint8]) -> Tensor:
        # Offset by 1, so that grey has a direction too.
        colour = torch.from_numpy(image.reshape(-1, 3).mean(0) / 255).float() + 1
        channels = torch.stack([self._direction(name) for name in (b"red", b"green", b"blue")])
        return F.normalize(colour @ channels, dim=0)

    def _direction(self, name: bytes) -> Tensor:
        digest = hashlib.sha256(self._seed.to_bytes(8, "big") + name).digest()
        numbers = np.random.default_rng(int.from_bytes(digest, "big"))
        return F.normalize(torch.from_numpy(numbers.normal(size=self._dimensions)).float(), dim=0)


class FakeLoad:
    """Serves data sets from memory; implements ``Load`` and what few labels are chosen by.

    Args:
        sets: Data by URL; their texts are by field as in a sample (``txt``, ``json.group``).
        broken: Keys of samples whose images are unreadable.
    """

    def __init__(self, sets: Mapping[str, EvaluationData], broken: Collection[str] = ()):
        self._sets, self._broken = sets, broken

    def __call__(self, url: str, fields: Mapping[str, str]) -> EvaluationData:
        """Return a data set with the text fields that are asked for.

        Raises:
            DataError: There is no such data set or field.
        """
        data = self._whole(url, fields)
        if not self._broken:
            return data
        there, _ = self.some(url, fields, range(len(data)))
        if not len(there):
            raise DataError(f"{url}: no sample is readable")
        return there

    def _whole(self, url: str, fields: Mapping[str, str]) -> EvaluationData:
        if url not in self._sets:
            raise DataError(f"{url}: no such data")
        data = self._sets[url]
        for field in fields.values():
            if field not in data.texts:
                raise DataError(f"{url}: no sample is readable; no member '{field}'")
        texts = {name: data.texts[field] for name, field in fields.items()}
        return replace(data, texts=texts)

    def texts(self, url: str, fields: Mapping[str, str]) -> Texts:
        """Return the text fields of all of a data set's samples."""
        data = self._whole(url, fields)
        return Texts(range(len(data)), data.keys, data.texts)

    def some(
        self, url: str, fields: Mapping[str, str], numbers: Sequence[int]
    ) -> tuple[EvaluationData, Sequence[int]]:
        """Return the samples of these numbers that are not broken, and their numbers."""
        data = self._whole(url, fields)
        there = [number for number in numbers if data.keys[number] not in self._broken]
        texts = {name: [values[n] for n in there] for name, values in data.texts.items()}
        keys = [data.keys[number] for number in there]
        masks = None if data.masks is None else data.masks[there]
        return EvaluationData(keys, data.images[there], texts, masks), there


def fake_data(
    samples: int, *, concepts: int = 10, groups: int = 2, size: int = 4, seed: int = 0
) -> EvaluationData:
    """Make pictures of random pixels whose concepts take turns.

    Args:
        samples: N.
        concepts: Distinct captions (field ``txt``): ``concept 0``, ...
        groups: Distinct labels (field ``json.group``); concept c is of group c mod groups.
        size: Side of the pictures.
        seed: Of pixels and keys; data of different seeds share captions, but no pictures.
    """
    pixels = np.random.default_rng(seed).integers(0, 256, (samples, size, size, 3), dtype=np.uint8)
    numbers = [place % concepts for place in range(samples)]
    return EvaluationData(
        keys=[f"{seed}-{place:05}" for place in range(samples)],
        images=pixels,
        texts={
            "txt": [f"concept {number}" for number in numbers],
            "json.group": [f"group {number % groups}" for number in numbers],
        },
    )
