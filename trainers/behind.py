"""One thing at a time that is done behind training's back."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Behind:
    """Runs one action in a thread; what it raises is raised where the next one is asked for."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, act: Callable[[], object]) -> None:
        """Wait for the last action, then start this one.

        Raises:
            BaseException: What the last one raised.
        """
        self.join()
        self._thread = threading.Thread(target=self._run, args=(act,), name="behind", daemon=True)
        self._thread.start()

    def _run(self, act: Callable[[], object]) -> None:
        try:
            act()
        except BaseException as error:  # raised again by check
            self._error = error

    @property
    def busy(self) -> bool:
        """Whether the last action goes on."""
        return self._thread is not None and self._thread.is_alive()

    def wait(self, seconds: float) -> None:
        """Wait for the last action, but not for long."""
        if self._thread is not None:
            self._thread.join(seconds)

    def check(self) -> None:
        """Raise what the last action raised, if it is known by now."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def join(self) -> None:
        """Wait for the last action, and raise what it raised."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()
