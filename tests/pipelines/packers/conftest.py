"""What the packers' tests share: trees from names and bytes, and what became of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pipelines.packers import PACKERS, Skipped, Unreadable, open_tree
from pipelines.shards import storage

Outcome = tuple[dict[str, dict[str, bytes]], dict[str, str]]


@pytest.fixture(scope="session")
def put() -> Callable[[str | Path, Mapping[str, bytes]], str]:
    """Write files below a URL; returns the URL."""

    def write(url: str | Path, files: Mapping[str, bytes]) -> str:
        for name, data in files.items():
            storage.write_atomic(storage.join(str(url), name), data)
        return str(url)

    return write


@pytest.fixture(scope="session")
def outcome() -> Callable[..., Outcome]:
    """``outcome(kind, url, **options)``: members by key, and reasons by what was left out."""

    def run(kind: str, url: str, **options: Any) -> Outcome:
        packer = PACKERS.build(PACKERS.parse({"kind": kind, **options}))
        samples, reasons = {}, {}
        for item in packer.samples(open_tree(url)):
            if isinstance(item, Skipped):
                reasons[item.place] = item.reason
                continue
            try:
                members = dict(item.read())
            except Unreadable as error:
                reasons[item.place] = str(error)
            else:
                samples.setdefault(item.key, members)
        return samples, reasons

    return run
