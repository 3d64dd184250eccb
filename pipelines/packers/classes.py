"""A folder of images a class."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from functools import partial

from pydantic import field_validator

from pipelines import core
from pipelines.packers._beside import is_class_tree, named_like
from pipelines.packers._contract import Item
from pipelines.packers._keys import printable, safe_key
from pipelines.packers._media import IMAGE_BYTES, IMAGE_NAMES, image_extension, read_media
from pipelines.packers._tree import Skipped, Tree


class Classes:
    """One folder of images a class: adds the class's number (cls) and name (json.label).

    A key is the path without extension; images may lie deeper in a class's folder.
    """

    class Config(core.Config):
        """Which classes there are.

        Attributes:
            names: The classes in the order of their numbers, for example those of the training
                set when its test set is packed; folders of other names are left out. Empty: the
                folders that hold a file named like an image, by name.
        """

        names: tuple[str, ...] = ()

        @field_validator("names")
        @classmethod
        def _names_differ(cls, names: tuple[str, ...]) -> tuple[str, ...]:
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"'{twice}' stands there twice")
            return names

    def __init__(self, config: Config):
        self._config = config

    def fits(self, tree: Tree) -> bool:
        """Two or more folders with images and nothing deeper, no image outside, no captions."""
        found = named_like(tree.names, IMAGE_NAMES)
        return tree.folder and bool(found) and is_class_tree(tree, found)

    def samples(self, tree: Tree) -> Iterator[Item | Skipped]:
        """List every file in a class's folder, by name.

        Raises:
            DataError: There is no such folder.
        """
        numbers = {name: number for number, name in enumerate(self._classes(tree))}
        for name in tree.names:
            label, slash, _ = name.partition("/")
            if slash and label in numbers:
                read = partial(_read, tree.url(name), label, numbers[label])
                yield Item(safe_key(posixpath.splitext(name)[0]), name, read)
            else:
                yield Skipped(name, "in no class's folder")

    def _classes(self, tree: Tree) -> list[str]:
        images = [name for name in named_like(tree.names, IMAGE_NAMES) if "/" in name]
        found = sorted({name.partition("/")[0] for name in images}) if tree.folder else []
        known = self._config.names
        if not found:
            raise core.DataError(f"{tree.src}: no folder with images in it")
        if known and not set(known) & set(found):
            raise core.DataError(
                f"{tree.src}: no folder is one of names; {core.nearest(known[0], found)}"
            )
        return list(known or found)


def _read(url: str, label: str, number: int) -> dict[str, bytes]:
    extension, data = read_media(url, image_extension, IMAGE_BYTES)
    about = {"label": printable(label), "class": number}
    text = json.dumps(about, ensure_ascii=False).encode()
    return {extension: data, "cls": str(number).encode(), "json": text}
