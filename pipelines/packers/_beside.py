"""Media files with texts beside them: ``bird.jpg``, ``bird.txt``, ``bird.json``."""

from __future__ import annotations

import json
import posixpath
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from pipelines.core import UserError
from pipelines.packers._contract import Item, Unreadable
from pipelines.packers._keys import safe_key
from pipelines.packers._media import Sniff, read_media, read_whole
from pipelines.packers._tree import Skipped, Tree

TEXT_BYTES = 1 << 20  # as much as training reads
_MEMBERS = {".txt": "txt", ".caption": "txt", ".json": "json"}  # the first one there is taken


def is_text(name: str) -> bool:
    """Whether a file is named like a caption or metadata."""
    return _extension(name) in _MEMBERS


def named_like(names: Sequence[str], extensions: tuple[str, ...]) -> list[str]:
    """Those names that end in one of some extensions, in either case."""
    return [name for name in names if name.lower().endswith(extensions)]


def is_class_tree(tree: Tree, images: Sequence[str]) -> bool:
    """Whether images stand in one folder a class: two or more, nothing deeper, no texts."""
    folders = {name.partition("/")[0] for name in images}
    flat = all(name.count("/") == 1 for name in images)
    return flat and len(folders) > 1 and not any(map(is_text, tree.names))


def with_texts(tree: Tree, sniff: Sniff, limit: int) -> Iterator[Item | Skipped]:
    """List a tree's media files with the texts beside them.

    Files of one stem are listed under one key, in the order of their names.
    A text with no file of its stem is reported.

    Raises:
        UserError: The tree is no folder.
    """
    if not tree.folder:
        raise UserError(f"{tree.src}: a folder is needed")
    texts: dict[str, list[str]] = defaultdict(list)
    for name in filter(is_text, tree.names):
        texts[posixpath.splitext(name)[0]].append(name)
    owned = set()
    for name in tree.names:
        if not is_text(name):
            stem = posixpath.splitext(name)[0]
            owned.add(stem)
            members, _ = _split(texts.get(stem, ()))
            urls = {member: tree.url(text) for member, text in members.items()}
            yield Item(safe_key(stem), name, partial(_read, tree.url(name), urls, sniff, limit))
    for stem, names in texts.items():
        spare = _split(names)[1] if stem in owned else names
        reason = "another text is taken" if stem in owned else "a text with nothing of its name"
        yield from (Skipped(name, reason) for name in spare)


def _extension(name: str) -> str:
    return posixpath.splitext(name)[1].lower()


def _split(names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Texts of one stem by member, and those whose member another one has."""
    order = list(_MEMBERS)
    taken: dict[str, str] = {}
    spare = []
    for name in sorted(names, key=lambda name: order.index(_extension(name))):
        if taken.setdefault(_MEMBERS[_extension(name)], name) != name:
            spare.append(name)
    return taken, spare


def _read(url: str, texts: Mapping[str, str], sniff: Sniff, limit: int) -> dict[str, bytes]:
    extension, data = read_media(url, sniff, limit)
    members = {extension: data}
    for member, place in texts.items():
        text = read_whole(place, TEXT_BYTES).removeprefix(b"\xef\xbb\xbf")  # Windows' mark
        try:
            letters = text.decode("utf-8")  # the library would read UTF-16, and training does not
            if member == "json":
                json.loads(letters)
        except (ValueError, RecursionError):
            what = "valid JSON" if member == "json" else "UTF-8"
            raise Unreadable(f"the {member} beside it is not {what}") from None
        members[member] = text
    return members
