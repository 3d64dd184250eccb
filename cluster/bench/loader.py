"""Loading images: this project's stream, its decoder alone, and two loaders of plain tars."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import ray

from cluster.bench.rounds import Measure, rate_of
from pipelines.core.source import RawSample
from pipelines.decode import Decoder
from pipelines.reader import DataConfig, Reader, Share, open_source
from pipelines.shards import storage
from pipelines.shards.index_tasks import scan_on_cluster
from pipelines.stream import ReaderConfig, stream
from pipelines.tables import array, empty

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Loading:
    """What every candidate does: ``samples`` of some tars as batches of square pictures.

    Attributes:
        url: Pattern of the tars.
        size: Side of the pictures, in pixels.
        batch: Pictures handed over together.
        samples: Pictures of a measurement.
        cores: Processes that decode.
    """

    url: str
    size: int
    batch: int
    samples: int
    cores: int

    @property
    def warm(self) -> int:
        """Batches before the clock starts: an eighth of them."""
        return max(1, self.samples // self.batch // 8)

    @property
    def data(self) -> DataConfig:
        """The same as a recipe's data."""
        source = {"kind": "webdataset", "url": self.url}
        return DataConfig.model_validate({"source": source, "decode": {"size": self.size}})


def candidates(loading: Loading) -> Mapping[str, Measure]:
    """What is measured, by name; needs a Ray cluster."""
    reader = Reader(open_source(loading.data.source, scan=scan_on_cluster), loading.data, 0)
    return {
        "ours": _ours(loading, reader),
        "decode_limit": _limit(loading, reader),
        "webdataset": _webdataset(loading),
        "ray_read_webdataset": _ray(loading),
    }


def _ours(loading: Loading, reader: Reader) -> Measure:
    reference, shapes = ray.put(reader), Decoder(loading.data.decode).shapes
    share = Share(loading.batch, 0, 1, 0, loading.samples // loading.batch)
    # Two tasks more than cores: where one ends, the next one is already there.
    config = ReaderConfig(batches_per_task=8, tasks_ahead=loading.cores + 2, memory=2 << 30)

    def batches() -> Iterator[npt.NDArray[Any]]:
        return (array(table, "image", shapes) for table in stream(reference, share, config))

    return lambda: rate_of(batches(), loading.warm)


@ray.remote(num_cpus=0)
class _Decoding:
    """A process that decodes pictures which are already in its memory."""

    def __init__(self, data: DataConfig, raws: list[RawSample], batch: int):
        self._decoder, self._raws = Decoder(data.decode), raws
        self._rows = empty(self._decoder.shapes, batch)

    def run(self, samples: int) -> int:
        """Decode so many pictures."""
        (rows,) = self._rows.values()
        for number in range(samples):
            raw = self._raws[number % len(self._raws)]
            self._decoder.fill(raw, {"image": rows[number % len(rows)]})
        return samples


def _limit(loading: Loading, reader: Reader) -> Measure:
    import time

    kept = min(loading.samples, reader.order.size, 2048)
    raws = list(reader.source.read(np.arange(kept, dtype=np.int64)))
    processes = [
        _Decoding.remote(loading.data, raws[number :: loading.cores], loading.batch)  # type: ignore[attr-defined]
        for number in range(loading.cores)
    ]
    ray.get([process.run.remote(8) for process in processes])

    def measure() -> float:
        began = time.perf_counter()
        each = loading.samples // loading.cores
        done = sum(ray.get([process.run.remote(each) for process in processes]))
        return float(done / (time.perf_counter() - began))

    return measure


def pillow(data: bytes, size: int) -> Pixels:
    """Decode, resize the shorter side (bicubic) and crop the centre, as open_clip evaluates.

    Returns:
        [size, size, 3] uint8
    """
    from PIL import Image

    image: Image.Image = Image.open(io.BytesIO(data)).convert("RGB")
    shrink = size / min(image.size)
    wide, high = (max(size, round(side * shrink)) for side in image.size)
    left, top = (wide - size) // 2, (high - size) // 2
    resized = image.resize((wide, high), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, top, left + size, top + size)))


def _webdataset(loading: Loading) -> Measure:
    import torch
    import webdataset

    urls = storage.expand(loading.url)

    def decoded(sample: dict[str, bytes]) -> Pixels:
        data = next(sample[name] for name in ("jpg", "jpeg", "png", "webp") if name in sample)
        return pillow(data, loading.size)

    def measure() -> float:
        samples = webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).map(decoded)
        loader = torch.utils.data.DataLoader(
            samples.repeat(), batch_size=loading.batch, num_workers=loading.cores
        )
        return rate_of(_first(iter(loader), loading.samples // loading.batch), loading.warm)

    return measure


def _ray(loading: Loading) -> Measure:
    urls = storage.expand(loading.url)

    def resized(row: dict[str, Any]) -> dict[str, Any]:
        data = next(row[name] for name in ("jpg", "jpeg", "png", "webp") if name in row)
        return {"image": pillow(data, loading.size)}

    def measure() -> float:
        dataset = ray.data.read_webdataset(urls, decoder=None).map(resized)
        batches = dataset.iter_batches(batch_size=loading.batch, batch_format="numpy")
        whole = (b["image"] for b in batches if len(b["image"]) == loading.batch)
        return rate_of(_first(whole, loading.samples // loading.batch), loading.warm)

    return measure


def _first(batches: Iterator[Any], count: int) -> Iterator[Any]:
    for _, batch in zip(range(count), batches, strict=False):
        yield batch


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
