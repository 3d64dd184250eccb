"""Evaluation jobs: requests become Ray jobs, bounded, retried, and never waited for by training."""

from __future__ import annotations

import contextlib
import hashlib
import shlex
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from cluster.profile import EvaluationJobs
from pipelines.core import UserError
from trainers.core.evaluation import EvaluationRequest, EvaluationResult
from trainers.recipe import EVALUATIONS
from trainers.requests import Inbox, done, file_result, forget_failures, request_url

_AWAY = 60.0  # seconds at least that the last look may be put off
_LEAVING = 10.0  # seconds that a look under way is waited for
_PATIENCE = 60  # looks at which the job server refuses before that counts as a try
_PLACED = 880.0  # seconds of waiting after which a job that fails has had no place
Status = Literal["new", "waiting", "running", "succeeded", "failed"]


@dataclass(frozen=True)
class Standing:
    """Where a request stands: its status, tries so far, and since when it waits or runs.

    ``starts`` are jobs so far; one that the cluster never had a place for was no try. ``again`` is
    one that an earlier start of the run had given up: it has one try, after the others.
    """

    samples: int
    status: Status = "new"
    tries: int = 0
    since: float = 0.0
    starts: int = 0
    again: bool = False


@dataclass(frozen=True)
class Action:
    """What to do with a request."""

    kind: Literal["start", "stop", "give up"]
    samples: int


def decide(standings: Sequence[Standing], limits: EvaluationJobs, now: float) -> list[Action]:
    """Decide what to do next: a pure function of where every request stands.

    Oldest first, at most ``at_once`` running or waiting for a place; a job that runs too long is
    stopped, one that failed is tried again, and after ``tries`` given up.
    """
    actions = []
    running = 0
    for standing in standings:
        if standing.status in ("running", "waiting"):
            running += 1
            if standing.status == "running" and now - standing.since > limits.timeout:
                actions.append(Action("stop", standing.samples))
    for standing in sorted(standings, key=lambda s: (s.again, s.samples)):
        waiting = standing.status in ("new", "failed")
        if waiting and standing.tries >= limits.tries:
            actions.append(Action("give up", standing.samples))
        elif waiting and running < limits.at_once:
            actions.append(Action("start", standing.samples))
            running += 1
    return actions


class Jobs(Protocol):
    """Starts and watches jobs; ``RayJobs`` on a cluster, a fake in tests."""

    def start(self, name: str, command: str) -> None:
        """Start a job; a second one of the same name is the first."""
        ...

    def running(self, beginning: str) -> str | None:
        """A job that runs and whose name begins so."""
        ...

    def status(self, name: str) -> Status:
        """Where it stands."""
        ...

    def stop(self, name: str) -> None:
        """End it."""
        ...

    def last_words(self, name: str) -> str:
        """The end of its log."""
        ...


class EvaluationManager:
    """Follows a run's requests in a thread until told to finish.

    Args:
        run: The run's URL.
        limits: How many at once, how often, how long.
        jobs: Starts and watches jobs.
        python: The interpreter that jobs use.
        tag: Tells this start of the run from others on the same cluster.
        outage: Seconds that an object store may be down before a job gives up.
        device: Where jobs compute.
    """

    def __init__(
        self,
        run: str,
        limits: EvaluationJobs,
        jobs: Jobs,
        python: str,
        tag: str,
        outage: float = 0.0,
        device: str = "cpu",
    ):
        self._run, self._limits, self._jobs, self._python = run, limits, jobs, python
        self._inbox = Inbox(run)
        self._tag, self._outage, self._device = tag, outage, device
        self._away = max(_AWAY, outage)
        self._standings: dict[int, Standing] = {}
        self._requests: dict[int, EvaluationRequest] = {}
        self._finishing, self._left = threading.Event(), threading.Event()
        self._refusals = 0
        self._earlier: frozenset[int] | None = None
        self._names: dict[int, str] = {}
        self._again: set[int] = set()
        self.faults: list[str] = []
        self._thread = threading.Thread(target=self._follow, daemon=True, name="evaluations")

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def finish(self, timeout: float) -> bool:
        """Wait until every request is dealt with; False if time ran out."""
        self._finishing.set()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def leave(self) -> None:
        """Stop following at once; where the cluster stays, jobs go on and file their results."""
        self._left.set()
        self._thread.join(_LEAVING)  # a job server may never answer, and the user waits

    @property
    def open(self) -> int:
        """Requests not yet dealt with."""
        return sum(s.status != "succeeded" for s in list(self._standings.values()))

    def _follow(self) -> None:
        looked = time.monotonic()
        while not self._left.is_set():
            last = self._finishing.is_set()  # read first: a request may come in between
            now = time.monotonic()
            try:
                self.step(now)
                looked = now
            except (UserError, OSError, RuntimeError) as error:
                self._note(error)
            except Exception as error:  # nobody foresaw it: training goes on, and the run tells
                self._note(error)
                return
            # A look that failed may have missed a request: a store that is away comes back.
            if last and not self.open and (looked == now or now - looked > self._away):
                return
            self._left.wait(1.0)

    def _note(self, error: Exception) -> None:
        self._tell(str(error) or type(error).__name__)

    def _tell(self, text: str) -> None:
        fault = f"evaluations: {text}"
        self.faults += [] if fault in self.faults else [fault]

    def step(self, now: float) -> None:
        """Look at every request once and act."""
        requests = self._inbox.look()
        if self._earlier is None:
            for request in requests:  # what a job of an earlier start has failed in, it tells anew
                if not self._jobs.running(self._beginning(request)) and forget_failures(request):
                    self._again.add(request.samples)
            self._earlier = frozenset(request.samples for request in requests)
        for request in requests:
            known = self._requests.get(request.samples)
            if known is None or known.digest != request.digest:
                self._requests[request.samples] = request
                status: Status = "new" if self._missing(request) else "succeeded"
                again = request.samples in self._again
                tries = self._limits.tries - 1 if again else 0
                self._standings[request.samples] = Standing(
                    request.samples, status, tries, again=again
                )
        for fault in self._inbox.faults:
            self._tell(fault)
        for standing in list(self._standings.values()):
            if standing.status in ("running", "waiting"):
                try:
                    self._follow_up(standing, self._jobs.status(self._name(standing)), now)
                except (OSError, RuntimeError) as error:  # it may answer again before time is up
                    self._note(error)
                    if now - standing.since > self._limits.timeout:
                        self._put(standing, "running")  # and is stopped as one that hangs
        for action in decide(list(self._standings.values()), self._limits, now):
            if not self._left.is_set():
                self._act(action, now)

    def _follow_up(self, standing: Standing, status: Status, now: float) -> None:
        waited = now - standing.since
        if standing.status == "waiting" and status == "running":
            standing = replace(standing, since=now)
        elif standing.status == "waiting" and status == "failed" and waited > _PLACED:
            # While training has the room. Afterwards requests must come to an end.
            given_back = not self._finishing.is_set()
            standing = replace(standing, tries=standing.tries - given_back)
        elif status == "waiting" and waited > self._limits.timeout:
            cpus, gpus = self._limits.cpus, self._limits.gpus
            self._tell(f"no room on the cluster for a job of {cpus:g} CPUs, {gpus:g} GPUs")
        self._put(standing, status)

    def _act(self, action: Action, now: float) -> None:
        standing = self._standings[action.samples]
        request = self._requests[action.samples]
        if action.kind == "stop":
            self._put(standing, "failed")
            self._jobs.stop(self._name(standing))
        elif action.kind == "give up":
            self._give_up(request, standing)
            self._put(standing, "succeeded")
        else:
            begun = replace(
                standing,
                status="running",
                tries=standing.tries + 1,
                since=now,
                starts=standing.starts + 1,
            )
            self._begin(begun, request)

    def _begin(self, begun: Standing, request: EvaluationRequest) -> None:
        beginning = self._beginning(request)
        name = f"{beginning}{self._tag}-{begun.starts}"
        earlier = begun.samples in (self._earlier or ())
        try:
            if earlier and begun.starts == 1:  # an earlier start of the run may have left it
                name = self._jobs.running(beginning) or name
            self._jobs.start(name, self._command(request))
        except (OSError, RuntimeError):
            # A cluster that just started refuses jobs for a while: that costs no try.
            self._refusals += 1
            if self._refusals % _PATIENCE == 0:
                self._put(begun, "failed")
            raise
        self._standings[begun.samples] = begun
        self._names[begun.samples] = name

    def _put(self, standing: Standing, status: Status) -> None:
        self._standings[standing.samples] = replace(standing, status=status)

    def _give_up(self, request: EvaluationRequest, standing: Standing) -> None:
        words = ""
        if standing.tries:
            with contextlib.suppress(RuntimeError, OSError):
                words = self._jobs.last_words(self._name(standing))
        told = [words, *self.faults[-1:], f"no result within {self._limits.timeout:g} s"]
        reason = next(text for text in told if text)
        for evaluation, dataset in self._missing(request):
            result = EvaluationResult(
                evaluation=evaluation,
                dataset=dataset,
                samples=request.samples,
                checkpoint=request.checkpoint,
                digest=request.digest,
                status="failed",
                seconds=0.0,
                error=f"gave up after {standing.tries} tries; {reason}",
            )
            file_result(self._run, result)

    def _missing(self, request: EvaluationRequest) -> list[tuple[str, str]]:
        have = done(request)
        configs = [EVALUATIONS.parse(data) for data in request.evaluations]
        wanted = [(EVALUATIONS.kind_of(c), str(getattr(c, "name", ""))) for c in configs]
        return [name for name in wanted if name not in have]

    def _name(self, standing: Standing) -> str:
        return self._names.get(standing.samples, "")

    def _beginning(self, request: EvaluationRequest) -> str:
        """How the names of all jobs begin that evaluate this commit for this run."""
        run = hashlib.sha256(self._run.encode()).hexdigest()[:6]
        return f"eagleray-evaluate-{request.digest[:12]}-{run}-"

    def _command(self, request: EvaluationRequest) -> str:
        url = request_url(self._run, request.samples)
        python, options = shlex.quote(self._python), f"--nice {self._limits.niceness}"
        options += f" --outage {self._outage:g} --device {self._device}"
        options += f" --threads {max(1, int(self._limits.cpus))}"
        return f"{python} -m cluster.evaluation_worker {options} {shlex.quote(url)}"
