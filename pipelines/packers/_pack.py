"""From a source of plain data to shards: which packer, in which order, what is left out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipelines.core import DataError, Family, UserError
from pipelines.packers._contract import Item, Packer, Unreadable
from pipelines.packers._keys import printable
from pipelines.packers._tree import Skipped, Tree
from pipelines.shards.tar import LARGEST
from pipelines.shards.writer import Bounds, WrittenShard, key_fault, tar_bytes, write_shards

PACKERS = Family("pipelines.packers")
_SHOWN = 1000  # of what was left out: enough to see what is wrong


@dataclass
class Left:
    """What was left out: how many for each reason, and the first of them."""

    reasons: Counter[str] = field(default_factory=Counter)
    first: list[Skipped] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many in all."""
        return self.reasons.total()

    def add(self, skipped: Skipped) -> None:
        """Note one."""
        self.reasons[skipped.reason] += 1
        if len(self.first) < _SHOWN:
            self.first.append(Skipped(printable(skipped.place), skipped.reason))

    def __str__(self) -> str:
        return "; ".join(f"{count:,} {reason}" for reason, count in self.reasons.most_common())


@dataclass(frozen=True)
class Packed:
    """What a packing did.

    Attributes:
        shards: In order.
        left: What was left out of the source.
        hidden: How many hidden files and folders were passed over.
    """

    shards: Sequence[WrittenShard]
    left: Left
    hidden: int


def detect(tree: Tree) -> str:
    """Find the one packer that a source looks made for.

    Raises:
        UserError: None, or more than one.
    """
    found = [member.name for member in PACKERS if member.cls(member.config()).fits(tree)]
    if len(found) != 1:
        names = ", ".join(found or PACKERS.names())
        what = (
            "could be several kinds" if found else "looks like no kind of data that can be packed"
        )
        raise UserError(f"{tree.src}: {what}; choose with --kind: {names}")
    return found[0]


def pack(
    packer: Packer,
    tree: Tree,
    dest: str,
    name: str = "train",
    bounds: Bounds | None = None,
    shuffle: int | None = None,
    overwrite: bool = False,
    strict: bool = False,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Packed:
    """Write the samples of a source as shards, whole or not at all.

    All keys are held in memory, some 800 bytes a sample; of the data, one sample.

    Args:
        packer: Lists and reads the samples.
        tree: The source.
        dest: URL of the folder for the shards.
        name: What the shards' names begin with.
        bounds: Most that a shard holds.
        shuffle: Seed of an order by hashes; None for the order of keys.
        overwrite: Replace shards of that name.
        strict: Stop at the first thing that would be left out.
        tell: Called with the number of samples tried, and of all.

    Raises:
        DataError: Nothing can be packed, or ``strict`` found something.
        StorageError: ``dest`` cannot be written.
        UserError: ``dest`` has such shards already, or the config does not fit the source.
    """
    left = _Strict() if strict else Left()
    items = _listed(packer, tree, left)
    items.sort(key=_order(shuffle))
    shards = write_shards(_samples(items, left, tell), dest, name, bounds, overwrite)
    if not shards:
        raise DataError(f"{tree.src}: nothing to pack; {left if left.count else 'it is empty'}")
    return Packed(shards, left, tree.hidden)


class _Strict(Left):
    def add(self, skipped: Skipped) -> None:
        raise DataError(f"{printable(skipped.place)}: {skipped.reason}")


def _order(seed: int | None) -> Callable[[Sequence[Item]], bytes]:
    if seed is None:
        return lambda items: items[0].key.encode()
    return lambda items: hashlib.blake2b(
        f"{seed}\0{items[0].key}".encode(), digest_size=16
    ).digest()


def _listed(packer: Packer, tree: Tree, left: Left) -> list[tuple[Item, ...]]:
    """Items with good keys; those that share one stand together."""
    for skipped in tree.skipped:
        left.add(skipped)
    items: dict[str, tuple[Item, ...]] = {}
    for item in packer.samples(tree):
        if isinstance(item, Skipped):
            left.add(item)
        elif fault := key_fault(item.key):
            left.add(Skipped(item.place, fault))
        else:
            items[item.key] = (*items.get(item.key, ()), item)
    return list(items.values())


def _samples(
    listed: Sequence[tuple[Item, ...]], left: Left, tell: Callable[[int, int], None]
) -> Iterator[tuple[str, Mapping[str, bytes]]]:
    for number, items in enumerate(listed):
        tell(number, len(listed))
        members = None
        for item in items:
            if members is not None:
                left.add(Skipped(item.place, "another one has its key"))
                continue
            try:
                members = _read(item)
            except Unreadable as error:
                left.add(Skipped(item.place, str(error)))
        if members is not None:
            yield items[0].key, members
    tell(len(listed), len(listed))


def _read(item: Item) -> Mapping[str, bytes]:
    members = item.read()
    # Headers are a few blocks: they are made for nothing, except near the limit.
    near = sum(map(len, members.values())) > LARGEST // 2
    if near and tar_bytes(item.key, members) > LARGEST:
        raise Unreadable(f"larger than the {LARGEST >> 20} MiB of a sample that training reads")
    return members
