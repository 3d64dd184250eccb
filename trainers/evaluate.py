"""Runs evaluations of a checkpoint: in a job, or for a command."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.core import Config, DataError, UserError, nearest
from pipelines.core.source import RawSample
from pipelines.decode import Decoder, DecoderConfig, SampleError
from pipelines.decode.mask import decode_mask
from pipelines.sources.webdataset import WebDataset
from trainers.checkpoint import Commit
from trainers.core.evaluation import Evaluation, EvaluationData, EvaluationResult
from trainers.model import Model
from trainers.recipe import EVALUATIONS

_TOGETHER = 1024  # samples fetched at once


@dataclass(frozen=True)
class Loader:
    """Loads whole evaluation sets into memory.

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
            DataError: None is readable.
            StorageError: The tars cannot be read.
        """
        if not self.size:
            raise UserError(
                "this evaluation needs a model that was trained on images; "
                "use another one (eagleray list evaluations)"
            )
        source = WebDataset(WebDataset.Config(url=url))
        decoder = Decoder(DecoderConfig(size=self.size, text=fields))
        rows, masks, fault = [], [], ""
        for raw in _all(source):
            try:
                sample = decoder(raw)
                if self.mask:
                    masks.append(self._mask(raw))
                rows.append((raw.key, sample))
            except SampleError as error:
                fault = fault or f"{raw.key}: {error}"
        if not rows:
            raise DataError(f"{url}: no sample is readable; {fault}")
        images = [sample.image for _, sample in rows if sample.image is not None]
        return EvaluationData(
            keys=[key for key, _ in rows],
            images=np.stack(images),
            texts={name: [_one(sample.texts[name]) for _, sample in rows] for name in fields},
            masks=np.stack(masks) if masks else None,
        )

    def _mask(self, raw: RawSample) -> npt.NDArray[np.uint8]:
        if self.mask not in raw.members:
            raise SampleError(f"no member '{self.mask}'; {nearest(self.mask, list(raw.members))}")
        return decode_mask(raw.members[self.mask], self.size)


def _one(text: str | list[str]) -> str:
    """The text, or the first of several."""
    return text if isinstance(text, str) else next(iter(text), "")


def _all(source: WebDataset) -> Iterator[RawSample]:
    total = len(source.index)
    for start in range(0, total, _TOGETHER):
        yield from source.read(np.arange(start, min(start + _TOGETHER, total), dtype=np.int64))


def evaluate(model: Model, commit: Commit, config: Config) -> EvaluationResult:
    """Run one evaluation of a loaded model.

    A fault that the user can put right becomes a failed result; any other
    error is raised, because trying again may help.
    """
    started = time.perf_counter()
    evaluation: Evaluation = EVALUATIONS.build(config)
    outcome, error = None, None
    try:
        outcome = evaluation.run(model, Loader(model.size))
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
