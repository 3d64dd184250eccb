"""Packers: how plain data become samples; one file each; the file's name is its ``kind``."""

from pipelines.packers._contract import Item, Packer, Unreadable
from pipelines.packers._keys import safe_key
from pipelines.packers._pack import PACKERS, Packed, detect, pack
from pipelines.packers._tree import Skipped, Tree, open_tree

__all__ = [
    "PACKERS",
    "Item",
    "Packed",
    "Packer",
    "Skipped",
    "Tree",
    "Unreadable",
    "detect",
    "open_tree",
    "pack",
    "safe_key",
]
