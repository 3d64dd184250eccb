"""How the reading of a training worker is spread."""

from __future__ import annotations

import math

from pydantic import Field

from pipelines.core import Config
from pipelines.reader import Share

_WAITS = 1 / 3  # of the memory, for what waits; Ray Data counts two blocks more for each task
# Bytes of a block: each costs its consumer's process, and others of Ray, 10 ms.
_SMALL, _LARGE = 4 << 20, 96 << 20
_SHARE = 16  # large blocks of several batches that ``memory`` has room for
_ROWS = 512  # of such a block: its first batch waits for its last
_LEAST = 10  # batches that memory has room for, where several tasks read


class ReaderConfig(Config):
    """How a worker's reading is spread; nothing here changes what it reads.

    Attributes:
        batches_per_task: Global batches that one read task fetches together, about:
            tasks are cut where windows of the shuffle end. Fewer where ``memory`` has no
            room for what tasks in flight would hold, one at least.
        samples_per_task: Samples of a worker that one read task fetches together where that is
            more, about: some sources make many at once for little more than few.
        tasks_ahead: Read tasks in flight for one worker.
        threads: Threads of a read task that decode, 1 is the task's own, or that augment
            there on a CPU. Several pay for decoding large pictures alone: whatever is short
            waits for the interpreter's lock.
        cpus: Logical CPUs that a read task occupies.
        gpus: GPUs that a read task occupies, where it augments on one.
        niceness: Of read tasks, so that training on the same cores goes first. More than a
            little keeps readers from being ahead.
        memory: Bytes of decoded batches that wait for one worker; without a bound
            readers would run ahead until the object store is full.
        cache: Bytes of decoded samples that a worker keeps, so that each is read once: where all
            of the data set take no more, and are pictures, texts or documents. 0: none are kept.
        patience: Seconds that a reader may work on one batch before it counts as
            stalled and is replaced; at least twice ``outage``.
        outage: Seconds that an object store may be down before reading gives up.
    """

    batches_per_task: int = Field(default=8, ge=1)
    samples_per_task: int = Field(default=128, ge=1)
    tasks_ahead: int = Field(default=2, ge=1)
    threads: int = Field(default=1, ge=1)
    cpus: float = Field(default=0.25, ge=0)
    gpus: float = Field(default=0.0, ge=0)
    niceness: int = Field(default=5, ge=0, le=19)
    memory: int = Field(default=256 << 20, ge=1 << 20)
    cache: int = Field(default=512 << 20, ge=0)
    patience: float = Field(default=300.0, gt=0)
    outage: float = Field(default=120.0, ge=0)

    @property
    def stalled(self) -> float:
        """Seconds after which a reader of one batch is replaced.

        Not one that waits for a store: tries without an answer take as long as the pauses.
        """
        return max(self.patience, 2 * self.outage)

    @property
    def deadline(self) -> float:
        """Seconds without a batch after which replacing readers has not helped."""
        return 4 * self.stalled

    @property
    def small(self) -> int:
        """Bytes up to which blocks are joined, however long their rows take."""
        return min(_SMALL, self.memory // 8)

    def rows(self, share: Share, size: float) -> int:
        """Rows of a read task, about.

        The first of several tasks hands over what it reads; the others hold theirs until it is
        their turn. More than ``memory`` has room for would stop them, and their cores.

        Args:
            share: What is read.
            size: Bytes of a row.
        """
        wanted = max(self.batches_per_task * share.local, self.samples_per_task)
        waiting = self.tasks_ahead - 1
        if not waiting:
            return wanted
        room = int(_WAITS * self.memory / (waiting * max(size, 1.0)))
        return min(wanted, max(share.local, room))

    def least(self, batch: int) -> int:
        """Bytes of memory with less of which readers wait for each other.

        Two batches of each task, one of which waits for its turn, and three at the consumer; ten
        in all: two tasks left both cores idle for 18 % of the time with eight, for 4 % with eleven.

        Args:
            batch: Bytes of a worker's part of one.
        """
        return max(_LEAST, 2 * self.tasks_ahead + 3) * batch if self.tasks_ahead > 1 else 0

    def together(self, rows: int, size: float, quick: bool) -> int:
        """Global batches that Ray Data hands over at once.

        Args:
            rows: Of a worker's part of a batch.
            size: Bytes of a row.
            quick: Whether a row takes about a millisecond. Of others a second's worth is
                small, and nobody should wait for more.
        """
        batch = max(rows * size, 1.0)
        least = math.ceil(self.small / batch)
        most = min(_LARGE, self.memory // _SHARE) / batch
        return max(1, least, min(int(most), _ROWS // rows) if quick else 0)
