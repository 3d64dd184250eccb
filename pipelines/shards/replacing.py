"""Shards in the place of old ones, which stay until the last new one is whole.

Until then the new ones wait in a hidden folder beside the old ones, under
names that no pattern of tars matches. So whatever ends a packing, one set is
whole: the old one, or, once the first shard is replaced, the new one, of which
the folder holds what is not in its place.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from pipelines.core import StorageError
from pipelines.shards import storage

_AT_ONCE = 8


def waiting_folder(dest: str, name: str) -> str:
    """URL of a folder that is not there yet, for new shards of a name."""
    return storage.join(dest, f".{name}.{uuid.uuid4().hex[:8]}")


def left_over(dest: str, name: str) -> list[str]:
    """Folders of packings that were ended before they could remove them."""
    ours = re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{8}}")
    return [storage.join(dest, file) for file in storage.names(dest) if ours.fullmatch(file)]


def take_over(moves: Mapping[str, str], old: Sequence[str], folders: Sequence[str]) -> None:
    """Put new shards in their places and remove what is left of the old ones.

    Args:
        moves: Where each new shard belongs, by where it waits.
        old: URLs of all old shards.
        folders: To remove when all is done: that of the new shards first.

    Raises:
        StorageError: Some are not in their places; the folder keeps them.
    """
    # An interrupt reaches the thread that waits here, and that one waits until all is done.
    with ThreadPoolExecutor(1) as apart:
        apart.submit(_take_over, moves, old, folders).result()


def _take_over(moves: Mapping[str, str], old: Sequence[str], folders: Sequence[str]) -> None:
    spare = set(old).difference(moves.values())
    try:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            jobs = [pool.submit(storage.replace, *move) for move in moves.items()]
            jobs += [pool.submit(storage.remove, url) for url in sorted(spare)]
        for job in jobs:
            job.result()
    except StorageError as error:
        kept = f"the new shards that are not in their places are in {folders[0]}"
        raise type(error)(f"{error}; {kept}: put it right and run again") from None
    for folder in folders:
        storage.remove_folder(folder)
