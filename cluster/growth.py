"""Runs that have fewer workers than they might: they leave once there is room for more."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from cluster.workforce import Need, Node, cluster_nodes, grows
from pipelines.core import StorageError
from pipelines.shards import storage

LOOK = 5.0  # seconds between two looks at the cluster
_SELDOM = 3600.0  # the same, at most, where runs left for room that was not there
_LEAVING = 10.0  # seconds that a look under way is waited for
_SURE = 2  # looks in a row that must find room before a run is interrupted for it


class Growth:
    """Asks a run with fewer workers than it might have to leave once there is room for more.

    Args:
        need: What is asked for.
        workers: That it has.
        url: File that asks its workers to commit and leave.
        say: Tells the user a line.
        look: Looks at the cluster.
        every: Seconds between two looks.

    Attributes:
        asked: Whether it asked them.
    """

    def __init__(
        self,
        need: Need,
        workers: int,
        url: str,
        say: Callable[[str], None],
        look: Callable[[], tuple[list[Node], list[Node]]] = cluster_nodes,
        every: float = LOOK,
    ):
        self._need, self._workers, self._url = need, workers, url
        self._say, self._look, self._every = say, look, every
        self.asked = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="growth", daemon=True)

    def __enter__(self) -> Growth:
        if self._workers < self._need.most:
            storage.remove(self._url)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        if self._workers < self._need.most:
            self._thread.join(_LEAVING)  # a head may be away, and the user waits
            with suppress(StorageError):  # the next attempt removes it as well
                storage.remove(self._url)

    def _watch(self) -> None:
        seen = 0
        while not self._closed.wait(self._every):
            try:
                whole, free = self._look()
            except Exception as error:  # a cluster whose head is away for a while: of any type
                reason = (str(error) or type(error).__name__).splitlines()[0]
                self._say(f"could not look for room for more workers: {reason}")
                seen = 0
                continue
            seen = seen + 1 if grows(self._need, self._workers, whole, free) else 0
            if seen >= _SURE and self._ask():
                return

    def _ask(self) -> bool:
        if self._closed.is_set():  # it looked for long, and the next attempt has begun
            return True
        try:
            storage.write_text(self._url, f'{{"workers": {self._workers}}}')
        except StorageError as error:
            self._say(f"could not ask for more workers, and will again: {error}")
            return False
        self.asked = True
        return True


def next_look(every: float, asked: bool, before: int, now: int) -> float:
    """Seconds between looks for room in the next attempt.

    Readers that wait have given their share back, so that what is free may look like more than
    there is for a larger run. One that left and is no larger now looks less often, so that it
    does not leave and come back without end.

    Args:
        every: The same of the last attempt.
        asked: Whether its workers were asked to leave for room.
        before: How many they were.
        now: How many the next attempt has.
    """
    if not asked:
        return every
    return LOOK if now > before else min(_SELDOM, 4 * every)
