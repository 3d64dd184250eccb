"""Contract of packers: they list what is there; its bytes are read when they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from pipelines.packers._tree import Skipped, Tree


class Unreadable(ValueError):
    """A sample that cannot be packed; the message is the reason, the same for all of its sort."""


@dataclass(frozen=True, slots=True)
class Item:
    """A sample before its bytes are read.

    Attributes:
        key: Its key in the shards.
        place: What it is made of, for messages.
        read: Reads its bytes by extension; raises ``Unreadable``.
    """

    key: str
    place: str
    read: Callable[[], Mapping[str, bytes]]


class Packer(Protocol):
    """A member of the family: built from its ``Config``, holds nothing else."""

    def fits(self, tree: Tree) -> bool:
        """Whether the names in a tree look like its sort of data; reads no file."""
        ...

    def samples(self, tree: Tree) -> Iterator[Item | Skipped]:
        """List the samples in an order that depends on the data alone.

        Of those with one key, the first that can be read is packed. Reading in the order of
        keys is what a packer may expect; any other order must work.

        Raises:
            DataError: The data as a whole are damaged, or not of this sort.
            UserError: The config does not fit the data.
        """
        ...
