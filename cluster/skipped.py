"""``RUN/skipped.json``: the batches that a run leaves out, because their loss was not finite."""

from __future__ import annotations

from pydantic import ValidationError

from pipelines.core import Config, StorageError
from pipelines.shards import storage


class Window(Config):
    """A batch that is left out.

    Attributes:
        step: Its step.
        start: Place of its first sample in the run's order.
        stop: The one after its last.
    """

    step: int
    start: int
    stop: int


class Skipped(Config):
    """All batches that are left out, in the order in which they were met."""

    windows: tuple[Window, ...] = ()

    @property
    def steps(self) -> tuple[int, ...]:
        """Their steps."""
        return tuple(window.step for window in self.windows)

    def before(self, samples: int) -> int:
        """How many of a run's first samples are in them."""
        return sum(max(0, min(window.stop, samples) - window.start) for window in self.windows)

    def and_step(self, step: int, batch: int) -> Skipped:
        """These and one more, of ``batch`` samples."""
        window = Window(step=step, start=(step - 1) * batch, stop=step * batch)
        return Skipped(windows=(*self.windows, window))


def read_skipped(run: str) -> Skipped:
    """Read what a run leaves out.

    Raises:
        StorageError: The file is damaged.
    """
    url = storage.join(run, "skipped.json")
    if not storage.exists(url):
        return Skipped()
    try:
        return Skipped.model_validate_json(storage.read_text(url))
    except ValidationError:
        raise StorageError(f"{url}: damaged; put it right, or choose another --out") from None


def write_skipped(run: str, skipped: Skipped) -> None:
    """Write what a run leaves out."""
    storage.write_text(storage.join(run, "skipped.json"), skipped.model_dump_json(indent=1))
