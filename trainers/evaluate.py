"""Runs evaluations of a checkpoint: in a job, or for a command."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines.core import Config, DataError, OutageError, UserError, nearest
from pipelines.core.source import Fault, RawSample
from pipelines.decode import Decoder, DecoderConfig, SampleError
from pipelines.decode.exif import upright_size
from pipelines.decode.image import EXTENSIONS
from pipelines.decode.mask import decode_mask
from pipelines.sources.webdataset import WebDataset
from trainers.checkpoint import Commit
from trainers.core.evaluation import Evaluation, EvaluationData, EvaluationResult, Outcome, Texts
from trainers.left_out import LeftOut, check_whole
from trainers.model import Model
from trainers.recipe import EVALUATIONS
from trainers.room import room

_TOGETHER = 1024  # samples fetched at once
Numbers = npt.NDArray[np.int64]


class _Row(NamedTuple):
    """A sample that was read: its number, key and text fields."""

    number: int
    key: str
    texts: Mapping[str, str | list[str]]


class Opened:
    """Data sets of evaluations, each opened once: of one that is read-only that is to read it all.

    Args:
        fallback: For the indexes of those; None keeps them in memory.
    """

    def __init__(self, fallback: str | None = None):
        self._fallback = fallback
        self._sources: dict[str, WebDataset] = {}

    def __call__(self, url: str) -> WebDataset:
        """Open a pattern of tars.

        Raises:
            DataError: A tar is damaged.
            StorageError: The tars cannot be read.
        """
        if url not in self._sources:
            source = WebDataset(WebDataset.Config(url=url), self._fallback)
            check_whole(source)
            self._sources[url] = source
        return self._sources[url]


@dataclass(frozen=True)
class Loader:
    """Loads evaluation sets, into memory or, where that is too small, a temporary file.

    Attributes:
        size: Side of the images, in pixels.
        mask: Member of a sample that holds its mask, such as ``mask.png``; empty for none.
        opened: Opens the tars.
    """

    size: int
    mask: str = ""
    opened: Opened = field(default_factory=Opened)

    def __call__(self, url: str, fields: Mapping[str, str]) -> EvaluationData:
        """Read every readable sample of some tars, in storage order.

        Raises:
            UserError: The model was trained on no images.
            DataError: Over 1 % are unreadable or lack something, or a tar is damaged.
            StorageError: The tars cannot be read, or there is no space for their pictures.
        """
        self._check_size()
        source, left_out = self.opened(url), LeftOut(url)
        data, _ = self._load(source, fields, np.arange(len(source.index)), left_out)
        left_out.check_some(len(data))
        left_out.check(len(source.index))
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
            DataError: A tar is damaged.
            StorageError: As for all of them.
        """
        self._check_size()
        wanted = np.asarray(numbers, dtype=np.int64)
        return self._load(self.opened(url), fields, wanted, LeftOut(url))

    def texts(self, url: str, fields: Mapping[str, str]) -> Texts:
        """Read text fields alone, in storage order; images may turn out to be unreadable.

        Raises:
            UserError: The model was trained on no images.
            DataError: No sample has them all, and an image and its mask; or a tar is damaged.
            StorageError: The tars cannot be read.
        """
        self._check_size()
        source, decoder, left_out = self.opened(url), _decoder(fields), LeftOut(url)
        rows = []
        for number, raw in enumerate(_read(source, np.arange(len(source.index)))):
            with _noted(left_out, raw):
                row = _Row(number, raw.key, decoder(raw).texts)
                self._check_members(raw)
                rows.append(row)
        left_out.check_some(len(rows))  # and no more: of what is learned from, few may have labels
        numbers, keys = [row.number for row in rows], [row.key for row in rows]
        return Texts(numbers, keys, _columns(rows, fields)[0])

    def _check_size(self) -> None:
        if not self.size:
            raise UserError(
                "this evaluation needs a model that was trained on images; "
                "use another one (eagleray list evaluations)"
            )

    def _load(
        self, source: WebDataset, fields: Mapping[str, str], numbers: Numbers, left_out: LeftOut
    ) -> tuple[EvaluationData, list[int]]:
        """What is readable of some samples, and its numbers."""
        decoder, picture = _decoder(fields), Decoder(DecoderConfig(size=self.size))
        images = room((len(numbers), self.size, self.size, 3))
        rows: list[_Row] = []
        masks = room(images.shape[:3]) if self.mask else None
        for number, raw in zip(numbers.tolist(), _read(source, numbers), strict=True):
            with _noted(left_out, raw):
                row = _Row(number, raw.key, decoder(raw).texts)
                self._check_members(raw)
                shown = self._without_mask(raw)
                picture.fill(shown, {"image": images[len(rows)]})
                if masks is not None:
                    masks[len(rows)] = self._mask(raw.members[self.mask], shown)
                rows.append(row)
        texts, lists = _columns(rows, fields)
        data = EvaluationData(
            keys=[row.key for row in rows],
            images=images[: len(rows)],
            texts=texts,
            masks=None if masks is None else masks[: len(rows)],
            lists=lists,
        )
        return data, [row.number for row in rows]

    def _without_mask(self, raw: RawSample) -> RawSample:
        """A sample less its mask, which may be an image by its extension."""
        return replace(raw, members={n: m for n, m in raw.members.items() if n != self.mask})

    def _mask(self, mask: bytes, shown: RawSample) -> npt.NDArray[np.uint8]:
        picture = next(shown.members[name] for name in EXTENSIONS if name in shown.members)
        try:
            return decode_mask(mask, self.size, upright_size(picture))
        except SampleError as error:
            raise SampleError(f"{self.mask}: {error}") from None

    def _check_members(self, raw: RawSample) -> None:
        if not any(name in raw.members for name in EXTENSIONS if name != self.mask):
            raise SampleError(f"no image member, has {', '.join(sorted(raw.members)) or 'none'}")
        if self.mask and self.mask not in raw.members:
            raise SampleError(f"no member '{self.mask}'; {nearest(self.mask, list(raw.members))}")


@contextmanager
def _noted(left_out: LeftOut, raw: RawSample) -> Iterator[None]:
    """Leave a sample out that the body cannot read."""
    try:
        yield
    except SampleError as error:
        left_out.add(Fault(raw.shard, raw.key, str(error)))


def _decoder(fields: Mapping[str, str]) -> Decoder:
    return Decoder(DecoderConfig(size=None, text=fields))


def _columns(
    rows: Iterable[_Row], fields: Mapping[str, str]
) -> tuple[dict[str, list[str]], dict[str, list[list[str]]]]:
    """Fields by name, those that are a text a sample and those that are a list."""
    texts: dict[str, list[str]] = {n: [] for n, f in fields.items() if not f.endswith("[]")}
    lists: dict[str, list[list[str]]] = {name: [] for name in fields if name not in texts}
    for row in rows:
        for name, value in row.texts.items():
            if isinstance(value, str):
                texts[name].append(value)
            else:
                lists[name].append(value)
    return texts, lists


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


def evaluate(
    model: Model, commit: Commit, config: Config, opened: Opened | None = None
) -> EvaluationResult:
    """Run one evaluation of a loaded model.

    A fault that the user can put right becomes a failed result; any other, and a store that is
    away, is raised, because trying again may help.
    """
    started = time.perf_counter()
    evaluation: Evaluation = EVALUATIONS.build(config)
    outcome, error = None, None
    try:
        outcome = _checked(evaluation.run(model, Loader(model.size, opened=opened or Opened())))
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
