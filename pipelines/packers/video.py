"""A folder of videos."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines import core
from pipelines.packers._beside import named_like, with_texts
from pipelines.packers._contract import Item
from pipelines.packers._media import VIDEO_NAMES, video_extension
from pipelines.packers._tree import Skipped, Tree
from pipelines.shards.tar import LARGEST


class Video:
    """A folder of videos, at any depth, with captions beside them (.txt, .caption, .json) or not.

    A key is the path without extension. MP4, MOV, WebM, Matroska, AVI and MPEG are
    packed as they are, told apart by their first bytes.
    """

    class Config(core.Config):
        """Nothing can be set."""

    def __init__(self, config: Config):
        self._config = config

    def fits(self, tree: Tree) -> bool:
        """Files named like videos."""
        return tree.folder and bool(named_like(tree.names, VIDEO_NAMES))

    def samples(self, tree: Tree) -> Iterator[Item | Skipped]:
        """List every file with its texts, by name."""
        return with_texts(tree, video_extension, LARGEST)
