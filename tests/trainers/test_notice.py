from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.core import StorageError
from pipelines.shards import storage
from trainers import notice as module
from trainers.notice import Notice


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """What the library knows of nodes that go."""
    context = SimpleNamespace(preemption_info=None)
    train = SimpleNamespace(preemption_context=context)
    monkeypatch.setattr(module, "get_train_context", lambda: train)
    monkeypatch.setattr(module, "_EVERY", 0.01)
    return context


def soon(notice: Notice) -> bool:
    end = time.monotonic() + 20.0
    while not notice() and time.monotonic() < end:
        time.sleep(0.01)
    return notice()


def test_nobody_asks_where_no_file_is_named(told: SimpleNamespace) -> None:
    notice = Notice()
    assert not notice()
    told.preemption_info = "a node goes"
    assert notice()
    notice.close()


def test_a_file_asks_from_when_it_is_there(told: SimpleNamespace, tmp_path: Path) -> None:
    notice = Notice(str(tmp_path / "leave"))
    time.sleep(0.05)
    assert not notice()
    (tmp_path / "leave").write_text("")
    assert soon(notice)
    notice.close()


def test_a_store_that_is_down_is_asked_again(
    told: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([StorageError("down"), StorageError("down"), False, True])

    def exists(url: str) -> bool:
        answer = next(answers)
        if isinstance(answer, StorageError):
            raise answer
        return answer

    monkeypatch.setattr(storage, "exists", exists)
    notice = Notice("s3://bucket/leave")
    assert soon(notice)
    assert next(answers, None) is None
    notice.close()
