"""Runs evaluations of a checkpoint: in a job, or for a command."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.core import Config, DataError, OutageError, UserError, nearest
from pipelines.core.source import RawSample
from pipelines.decode import Decoder, DecoderConfig, SampleError
from pipelines.decode.exif import upright_size
from pipelines.decode.image import EXTENSIONS
from pipelines.decode.mask import decode_mask
from pipelines.sources.webdataset import WebDataset
from trainers.checkpoint import Commit
from trainers.core.evaluation import (
    Evaluation,
    EvaluationData,
    EvaluationResult,
    Outcome,
    Texts,
)
from trainers.model import Model
from trainers.recipe import EVALUATIONS
from trainers.room import room

_TOGETHER = 1024  # samples fetched at once
_LACKING = 0.01  # share of samples without a text from which on a score would be of something else
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Loader:
    """Loads evaluation sets, into memory or, where that is too small, a temporary file.

    Attributes:
        size: Side of the images, in pixels.
        mask: Member of a sample that holds its mask, such as ``mask.png``; empty for none.
    """

    size: int
    mask: str = ""

    def __call__(self, url: str, fields: Mapping[str, str]) -> EvaluationData:
        """Read every readable sample of some tars, in storage order.

        Raises:
            UserError: The model was trained on no images.
            DataError: None is readable, or over 1 % lack a text.
            StorageError: The tars cannot be read, or there is no space for their pictures.
        """
        self._check_size()
        source = _open(url)
        left_out = _LeftOut()
        data, _ = self._load(source, fields, np.arange(len(source.index)), left_out)
        left_out.check(url, len(data), len(source.index))
        return data

    def some(
        self, url: str, fields: Mapping[str, str], numbers: Sequence[int]
    ) -> tuple[EvaluationData, Sequence[int]]:
        """Read the readable ones of some samples, in the order asked.

        Args:
            url: Pattern of tars.
            fields: Text fields by name.
            numbers: Of the samples, as ``texts`` tells them.

        Returns:
            The samples, none where none is readable, and their numbers.

        Raises:
            UserError: The model was trained on no images.
            StorageError: As for all of them.
        """
        self._check_size()
        return self._load(_open(url), fields, np.asarray(numbers, dtype=np.int64), _LeftOut())

    def texts(self, url: str, fields: Mapping[str, str]) -> Texts:
        """Read text fields alone, in storage order; images may turn out to be unreadable.

        Raises:
            UserError: The model was trained on no images.
            DataError: No sample has them all, and an image and its mask.
            StorageError: The tars cannot be read.
        """
        self._check_size()
        source, decoder, left_out = _open(url), _decoder(fields), _LeftOut()
        rows = []
        for number, raw in enumerate(_read(source, np.arange(len(source.index)))):
            with left_out.noted(raw):
                texts = left_out.texts(decoder, raw)
                self._check_members(raw)
                rows.append((number, raw.key, texts))
        left_out.check_some(url, len(rows))
        return Texts(
            numbers=[number for number, _, _ in rows],
            keys=[key for _, key, _ in rows],
            texts={name: [_one(texts[name]) for _, _, texts in rows] for name in fields},
        )

    def _check_size(self) -> None:
        if not self.size:
            raise UserError(
                "this evaluation needs a model that was trained on images; "
                "use another one (eagleray list evaluations)"
            )

    def _load(
        self, source: WebDataset, fields: Mapping[str, str], numbers: Numbers, left_out: _LeftOut
    ) -> tuple[EvaluationData, list[int]]:
        """What is readable of some samples, and its numbers."""
        decoder, picture = _decoder(fields), Decoder(DecoderConfig(size=self.size))
        images = room((len(numbers), self.size, self.size, 3))
        rows: list[tuple[int, str, Mapping[str, str | list[str]]]] = []
        masks = room(images.shape[:3]) if self.mask else None
        for number, raw in zip(numbers.tolist(), _read(source, numbers), strict=True):
            with left_out.noted(raw):
                texts = left_out.texts(decoder, raw)
                picture.fill(raw, {"image": images[len(rows)]})
                if masks is not None:
                    self._check_members(raw)
                    masks[len(rows)] = self._mask(raw)
                rows.append((number, raw.key, texts))
        data = EvaluationData(
            keys=[key for _, key, _ in rows],
            images=images[: len(rows)],
            texts={name: [_one(texts[name]) for _, _, texts in rows] for name in fields},
            masks=None if masks is None else masks[: len(rows)],
        )
        return data, [number for number, _, _ in rows]

    def _mask(self, raw: RawSample) -> npt.NDArray[np.uint8]:
        picture = next(raw.members[name] for name in EXTENSIONS if name in raw.members)
        try:
            return decode_mask(raw.members[self.mask], self.size, upright_size(picture))
        except SampleError as error:
            raise SampleError(f"{self.mask}: {error}") from None

    def _check_members(self, raw: RawSample) -> None:
        if not any(name in raw.members for name in EXTENSIONS):
            raise SampleError(f"no image member, has {', '.join(sorted(raw.members)) or 'none'}")
        if self.mask and self.mask not in raw.members:
            raise SampleError(f"no member '{self.mask}'; {nearest(self.mask, list(raw.members))}")


class _LeftOut:
    """What could not be read of a set, and how much of that for want of a text."""

    def __init__(self) -> None:
        self._first, self._lacking = "", 0
        self._first_lacking = ""

    @contextmanager
    def noted(self, raw: RawSample) -> Iterator[None]:
        """Leave a sample out that the body cannot read."""
        try:
            yield
        except SampleError as error:
            self._first = self._first or f"{raw.key}: {error}"

    def texts(self, decoder: Decoder, raw: RawSample) -> Mapping[str, str | list[str]]:
        """Read a sample's texts, and count where one is missing.

        Raises:
            SampleError: One is missing, or nothing of the sample can be read.
        """
        try:
            return decoder(raw).texts
        except SampleError as error:
            if not raw.fault:
                self._lacking += 1
                self._first_lacking = self._first_lacking or f"{raw.key}: {error}"
            raise

    def check_some(self, url: str, read: int) -> None:
        """Refuse a set of which nothing is left.

        Raises:
            DataError: No sample is readable.
        """
        if not read:
            raise DataError(f"{url}: no sample is readable; {self._first}")

    def check(self, url: str, read: int, asked: int) -> None:
        """Refuse a set of which nothing is left, or not what it claims to be.

        Raises:
            DataError: No sample is readable, or over 1 % lack a text.
        """
        self.check_some(url, read)
        if self._lacking > _LACKING * asked:
            raise DataError(
                f"{url}: {self._lacking} of {asked} samples lack a text that is asked for; the "
                f"first is {self._first_lacking}; name another field, or take them out"
            )


def _decoder(fields: Mapping[str, str]) -> Decoder:
    return Decoder(DecoderConfig(size=None, text=fields))


def _one(text: str | list[str]) -> str:
    """The text, or the first of several."""
    return text if isinstance(text, str) else next(iter(text), "")


def _open(url: str) -> WebDataset:
    return WebDataset(WebDataset.Config(url=url))


def _read(source: WebDataset, numbers: Numbers) -> Iterator[RawSample]:
    for start in range(0, len(numbers), _TOGETHER):
        yield from source.read(numbers[start : start + _TOGETHER])


def _checked(outcome: Outcome) -> Outcome:
    """Refuse what a filed result could not say."""
    numbers = {**outcome.metrics, "chance": outcome.chance}
    numbers |= dict(zip(("interval's start", "interval's end"), outcome.interval, strict=True))
    wrong = [name for name, value in numbers.items() if not math.isfinite(value)]
    if wrong:
        raise DataError(f"{', '.join(wrong)}: not a finite number; see what the data set holds")
    return outcome


def evaluate(model: Model, commit: Commit, config: Config) -> EvaluationResult:
    """Run one evaluation of a loaded model.

    A fault that the user can put right becomes a failed result; any other, and a store that is
    away, is raised, because trying again may help.
    """
    started = time.perf_counter()
    evaluation: Evaluation = EVALUATIONS.build(config)
    outcome, error = None, None
    try:
        outcome = _checked(evaluation.run(model, Loader(model.size)))
    except OutageError:
        raise
    except UserError as fault:
        error = str(fault)
    return EvaluationResult(
        evaluation=EVALUATIONS.kind_of(config),
        dataset=str(getattr(config, "name", "")),
        samples=commit.samples,
        checkpoint=commit.url,
        digest=commit.digest,
        status="failed" if error else "ok",
        seconds=time.perf_counter() - started,
        outcome=outcome,
        error=error,
    )
