"""IDX files, as MNIST and Fashion-MNIST come."""

from __future__ import annotations

import gzip
import io
import json
import posixpath
import re
import zlib
from collections.abc import Iterator
from functools import partial
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipelines import core
from pipelines.packers._contract import Item
from pipelines.packers._tree import Tree
from pipelines.shards import storage

_IMAGES = re.compile(r"images([-._])idx3")
_BYTES = 1 << 32  # of one file's values, which are held in memory

Values = npt.NDArray[np.uint8]


class Idx:
    """IDX images and labels (MNIST and its kin, .gz or not): png, class number (cls), json.label.

    SRC is the images' file, or a folder with one. A key is the number of the image.
    """

    class Config(core.Config):
        """Which files, and what the classes are called.

        Attributes:
            images: The images' file in SRC, where it has several.
            labels: The labels' file beside it, where it is not called like the images' file.
            names: The classes in the order of their numbers; their numbers where there are none.
        """

        images: str | None = None
        labels: str | None = None
        names: tuple[str, ...] = ()

    def __init__(self, config: Config):
        self._config = config

    def fits(self, tree: Tree) -> bool:
        """A file named like ``train-images-idx3-ubyte.gz``."""
        return bool(_candidates(tree))

    def samples(self, tree: Tree) -> Iterator[Item]:
        """Read the two files, then list their images by number."""
        place = tree.url(self._images(tree))
        images = read_idx(place, 3)
        folder, _, name = place.rpartition("/")
        beside = self._config.labels or _labels(folder or ".", name)
        labels = read_idx(storage.join(folder or ".", beside), 1)
        if len(images) != len(labels):
            raise core.DataError(f"{place}: {len(images)} images, but {len(labels)} labels")
        names = self._config.names or tuple(map(str, range(256)))
        if len(labels) and int(labels.max()) >= len(names):
            raise core.UserError(f"{tree.src}: class {labels.max()} is not among names")
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            read = partial(_encode, image, int(label), names[int(label)])
            yield Item(f"{number:08d}", f"{name} {number}", read)

    def _images(self, tree: Tree) -> str:
        if self._config.images is not None:
            if self._config.images not in tree.names:
                hint = core.nearest(self._config.images, tree.names)
                raise core.UserError(f"{tree.src}: images: no such file; {hint}")
            return self._config.images
        found = _candidates(tree)
        if len(found) != 1:
            shown = f"choose one with --set images=: {', '.join(found)}" if found else "none there"
            raise core.UserError(f"{tree.src}: one file called *images-idx3* is needed; {shown}")
        return found[0]


def _candidates(tree: Tree) -> list[str]:
    return [name for name in tree.names if _IMAGES.search(posixpath.basename(name))]


def _labels(folder: str, images: str) -> str:
    wanted = _IMAGES.sub(r"labels\1idx1", images)
    plain = wanted.removesuffix(".gz")
    beside = storage.names(folder)
    found = next((name for name in (wanted, plain, f"{plain}.gz") if name in beside), None)
    if found is None:
        raise core.UserError(f"{folder}: no {wanted} beside the images; give it by --set labels=")
    return found


def read_idx(url: str, dimensions: int) -> Values:
    """Read an IDX file of bytes, decompressing it where it is a gzip file.

    Raises:
        DataError: It is damaged, too large, or has other values or dimensions.
    """
    with storage.explained(url), storage.open_read(url) as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
    with storage.explained(url), storage.open_read(url) as raw:
        if not zipped:
            return _values(raw, url, dimensions)
        try:
            with gzip.open(raw) as stream:
                return _values(stream, url, dimensions)
        except (gzip.BadGzipFile, EOFError, zlib.error):
            raise core.DataError(f"{url}: damaged gzip file; fetch it again") from None


def _values(stream: IO[bytes] | gzip.GzipFile, url: str, dimensions: int) -> Values:
    head = stream.read(4 + 4 * dimensions)
    if head[:4] != bytes((0, 0, 8, dimensions)) or len(head) < 4 + 4 * dimensions:
        raise core.DataError(f"{url}: no IDX file of bytes in {dimensions} dimensions")
    shape = tuple(int(side) for side in np.frombuffer(head, ">u4", offset=4))
    count = int(np.prod(shape, dtype=object))
    if count > _BYTES or 0 in shape[1:]:
        raise core.DataError(f"{url}: its header promises {' x '.join(map(str, shape))} values")
    data = stream.read(count + 1)
    if len(data) != count:
        raise core.DataError(f"{url}: its header promises {count} values, it has {len(data)}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _encode(image: Values, label: int, name: str) -> dict[str, bytes]:
    sink = io.BytesIO()
    Image.fromarray(image).save(sink, "PNG")
    about = json.dumps({"label": name, "class": label}, ensure_ascii=False)
    return {"png": sink.getvalue(), "cls": str(label).encode(), "json": about.encode()}
