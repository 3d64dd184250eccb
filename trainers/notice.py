"""What asks a worker to leave: its node is to be taken away, or the driver wants to start anew."""

from __future__ import annotations

import threading

from ray.train.v2._internal.execution.context import get_train_context

from pipelines.core import StorageError
from pipelines.shards import storage

_EVERY = 2.0  # seconds; a node's notice comes half a minute before it goes, or more


class Notice:
    """Whether this worker has been asked to leave.

    Args:
        url: Of a file that asks, looked for in a thread; empty for none.
    """

    def __init__(self, url: str = ""):
        self._url = url
        self._asked, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="notice", daemon=True)
        if url:
            self._thread.start()

    def _watch(self) -> None:
        while not self._closed.wait(_EVERY):
            try:
                if storage.exists(self._url):
                    self._asked.set()
                    return
            except StorageError:
                continue  # a store that is down is asked again

    def __call__(self) -> bool:
        """Whether the file is there, or the library has been told that a node goes."""
        # The public call is one between all workers; here the engine brings their answers together.
        going = get_train_context().preemption_context.preemption_info is not None
        return going or self._asked.is_set()

    def close(self) -> None:
        """Stop looking."""
        self._closed.set()
        if self._url:
            self._thread.join()
