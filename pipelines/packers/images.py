"""A folder of images."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines import core
from pipelines.packers._beside import is_class_tree, named_like, with_texts
from pipelines.packers._contract import Item
from pipelines.packers._media import IMAGE_BYTES, IMAGE_NAMES, image_extension
from pipelines.packers._tree import Skipped, Tree


class Images:
    """A folder of images, at any depth, with captions beside them (.txt, .caption, .json) or not.

    A key is the path without extension. JPEG, PNG and WebP are packed as
    they are, told apart by their first bytes.
    """

    class Config(core.Config):
        """Nothing can be set."""

    def __init__(self, config: Config):
        self._config = config

    def fits(self, tree: Tree) -> bool:
        """Files named like images, which are not one folder a class."""
        found = named_like(tree.names, IMAGE_NAMES)
        return tree.folder and bool(found) and not is_class_tree(tree, found)

    def samples(self, tree: Tree) -> Iterator[Item | Skipped]:
        """List every file with its texts, by name."""
        return with_texts(tree, image_extension, IMAGE_BYTES)
