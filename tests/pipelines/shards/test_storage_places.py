"""Filesystems that a URL alone does not make: each is one line that says what to do."""

from __future__ import annotations

from collections.abc import Iterator

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry, known_implementations

from pipelines.core import StorageError
from pipelines.shards import storage, storage_places


def told(url: str) -> str:
    with pytest.raises(StorageError) as caught:
        storage.exists(url)
    message = str(caught.value)
    assert message.startswith(f"{url}: '")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "url",
    [
        "zip://a.tar",
        "tar://a.tar",
        "zip://a.tar::s3://bucket/b.zip",
        "dir://x",
        "data:,x",
        "reference://x",
        "filecache::s3://bucket/x",
        "generic://x",
    ],
)
def test_what_reads_within_another_file_or_filesystem_is_refused(url: str) -> None:
    assert "names no place of files by itself; give the URL of plain files" in told(url)


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("ftp://host/a.tar", "FSSPEC_FTP_HOST"),
        ("webhdfs://host:1/a.tar", "FSSPEC_WEBHDFS_HOST"),
        ("jupyter://a.tar", "FSSPEC_JUPYTER_URL"),
        ("dbfs://a.tar", "FSSPEC_DBFS_INSTANCE and FSSPEC_DBFS_TOKEN"),
    ],
)
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_settings_that_a_url_does_not_hold_are_named(url: str, names: str) -> None:
    assert told(url).endswith(f"cannot be used without settings; set {names} in the environment")


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = {"class": "absent_package.Some", "err": 'Some requires "absent" to be installed'}
    monkeypatch.setitem(known_implementations, "lacking", lacking)
    expected = """'lacking' needs a package: Some requires "absent" to be installed"""
    assert told("lacking://host/a.tar").endswith(expected)


class Particular(MemoryFileSystem):  # type: ignore[misc]
    """Wants a setting, and may not start."""

    protocol = "particular"
    cachable = False

    def __init__(self, place: str, **options: object) -> None:
        super().__init__(**options)
        if place == "nowhere":
            raise OSError("cannot load\nits library, secret=S3CRET")


@pytest.fixture
def particular(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(_registry, "particular", Particular)
    yield
    storage_places._filesystem.cache_clear()


def test_settings_that_are_given_are_used(
    particular: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fsspec.config.conf, "particular", {"place": "here"})
    assert not storage.exists("particular://a.tar")


def test_what_does_not_start_is_one_line(particular: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fsspec.config.conf, "particular", {"place": "nowhere"})
    assert told("particular://a.tar").endswith("'particular' cannot be used: cannot load")
