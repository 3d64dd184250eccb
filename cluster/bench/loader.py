"""Loading images: this project's stream, its decoder alone, and two loaders of plain tars."""

from __future__ import annotations

import importlib.util
import io
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import ray
from PIL import Image

from cluster.bench.rounds import Measure, rate_of
from cluster.profile import Profile
from cluster.session import connect
from pipelines.core import UserError
from pipelines.core.source import RawSample
from pipelines.decode import Decoder
from pipelines.order import Shuffle
from pipelines.reader import DataConfig, Reader, Share, open_source
from pipelines.reader_config import ReaderConfig
from pipelines.shards import storage
from pipelines.shards.index_tasks import scan_on_cluster
from pipelines.stream import stream
from pipelines.tables import array, empty

_ENDLESS = 1 << 22  # samples: hours
_ENOUGH = 750  # samples a second and core that Ray's own reader will not exceed
_MEMORY = 2 << 30  # bytes, as in the profile of a GPU
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Loading:
    """What every candidate does: pictures of some tars, again and again, as square batches.

    Attributes:
        url: Pattern of the tars.
        size: Side of the pictures, in pixels.
        batch: Pictures handed over together.
        seconds: Of a measurement.
        cores: Processes that decode.
        shuffle: Of this project's stream.
    """

    url: str
    size: int
    batch: int
    seconds: float
    cores: int
    shuffle: Shuffle = field(default_factory=Shuffle)

    @property
    def warm(self) -> float:
        """Seconds before the clock starts."""
        return self.seconds

    @property
    def profile(self) -> Profile:
        """A worker that only consumes, and a reader for each core, two at least."""
        held, tasks = 16 * 3 * self.batch * self.size**2, max(2, self.cores)
        memory = max(held, _MEMORY)
        reader = ReaderConfig(batches_per_task=4, tasks_ahead=tasks, memory=memory, cache=0)
        return Profile(workers=1, cpus_per_worker=float(self.cores), reader=reader)

    @property
    def data(self) -> DataConfig:
        """The same as a recipe's data."""
        source = {"kind": "webdataset", "url": self.url}
        data = {"source": source, "decode": {"size": self.size}, "shuffle": self.shuffle}
        return DataConfig.model_validate(data)


def check_installed() -> None:
    """Refuse to begin without the peers.

    Raises:
        UserError: One is missing.
    """
    if importlib.util.find_spec("webdataset") is None:
        raise UserError("webdataset is not installed: pip install webdataset")


def candidates(loading: Loading) -> Mapping[str, Measure]:
    """What is measured, by name.

    Ray's own reader is measured twice: in a cluster as ``ray.init()`` starts it, and in one as
    this project does, with more logical CPUs than cores, in which it is faster.
    """
    with connect(loading.profile):
        source = open_source(loading.data.source, scan=scan_on_cluster)
    reader = Reader(source, loading.data, 0)
    return {
        "ours": _alone(loading, ours(loading, reader)),
        "decode_limit": _alone(loading, _limit(loading, reader)),
        "webdataset": _webdataset(loading),
        "ray_read_webdataset": _as_shipped(loading.cores, _ray(loading, reader.order.size)),
        "ray_read_webdataset_crowded": _alone(loading, _ray(loading, reader.order.size)),
    }


def _alone(loading: Loading, measure: Measure) -> Measure:
    """Measure in a cluster of its own: idle processes of another one still take some of a core."""

    def run() -> float:
        with connect(loading.profile):
            return measure()

    return run


def _as_shipped(cores: int, measure: Measure) -> Measure:
    """Measure in a cluster of its own, as ``ray.init()`` starts it on so many cores."""

    def run() -> float:
        mine = not ray.is_initialized()
        if mine:
            quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
            ray.init(address="local", num_cpus=cores, include_dashboard=False, **quiet)
        try:
            return measure()
        finally:
            if mine:
                ray.shutdown()

    return run


def ours(loading: Loading, reader: Reader) -> Measure:
    """This project's stream, through Ray Data to a consumer."""
    shapes = Decoder(loading.data.decode).shapes
    share = Share(loading.batch, 0, 1, 0, _ENDLESS // loading.batch)

    def batches() -> Iterator[npt.NDArray[Any]]:
        for table in stream(ray.put(reader), share, loading.profile.reader):
            yield array(table, "image", shapes)

    return lambda: rate_of(batches(), loading.warm, loading.seconds)


@ray.remote(num_cpus=0)
class _Decoding:
    """A process that decodes pictures which are already in its memory."""

    def __init__(self, data: DataConfig, raws: list[RawSample], batch: int):
        self._decoder, self._raws = Decoder(data.decode), raws
        self._rows = empty(self._decoder.shapes, batch)

    def run(self, seconds: float) -> float:
        """Decode for so long; returns pictures a second."""
        (rows,) = self._rows.values()
        began, number = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            raw = self._raws[number % len(self._raws)]
            self._decoder.fill(raw, {"image": rows[number % len(rows)]})
            number += 1
        return number / (time.perf_counter() - began)


def _limit(loading: Loading, reader: Reader) -> Measure:
    kept = min(reader.order.size, 2048)
    raws = list(reader.source.read(np.arange(kept, dtype=np.int64)))

    def measure() -> float:
        processes = [
            _Decoding.remote(loading.data, raws[number :: loading.cores], loading.batch)  # type: ignore[attr-defined]
            for number in range(loading.cores)
        ]
        ray.get([process.run.remote(loading.warm) for process in processes])
        rates = ray.get([process.run.remote(loading.seconds) for process in processes])
        return float(sum(rates))

    return measure


def pillow(data: bytes, size: int) -> Pixels:
    """Decode and resize as open_clip does for an evaluation. [size, size, 3] uint8."""
    return resize(Image.open(io.BytesIO(data)).convert("RGB"), size)


def resize(image: Image.Image, size: int) -> Pixels:
    """Resize the shorter side (bicubic) and crop the centre. [size, size, 3] uint8."""
    shrink = size / min(image.size)
    wide, high = (max(size, round(side * shrink)) for side in image.size)
    left, top = (wide - size) // 2, (high - size) // 2
    resized = image.resize((wide, high), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, top, left + size, top + size)))


def _webdataset(loading: Loading) -> Measure:
    import torch
    import webdataset

    urls = storage.expand(loading.url)
    urls *= math.lcm(len(urls), loading.cores) // len(urls)  # one that has no tar would do nothing

    def decoded(sample: dict[str, bytes]) -> Pixels:
        data = next(sample[name] for name in ("jpg", "jpeg", "png", "webp") if name in sample)
        return pillow(data, loading.size)

    def measure() -> float:
        samples = webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).map(decoded)
        loader = torch.utils.data.DataLoader(
            samples.repeat(), batch_size=loading.batch, num_workers=loading.cores
        )
        return rate_of(iter(loader), loading.warm, loading.seconds)

    return measure


def _ray(loading: Loading, size: int) -> Measure:
    rate = _ENOUGH * max(2, loading.cores)
    times = -(-int(rate * (loading.warm + loading.seconds)) // size)
    urls = storage.expand(loading.url) * times

    def resized(row: dict[str, Any]) -> dict[str, Any]:
        pixels = next(row[name] for name in ("jpg", "png") if name in row)
        return {"image": resize(Image.fromarray(pixels), loading.size)}

    def measure() -> float:
        dataset = ray.data.read_webdataset(urls).map(resized)  # decodes by itself, with Pillow
        batches = dataset.iter_batches(batch_size=loading.batch, batch_format="numpy")
        whole = (b["image"] for b in batches if len(b["image"]) == loading.batch)
        return rate_of(whole, loading.warm, loading.seconds)

    return measure


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
