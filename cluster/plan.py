"""What a run will take, before it starts: memory, speed, time and price from a few facts.

Parameters, gradients, moments and averages are held in fp32 at every precision, since low
precision is autocast.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from torch import nn

from cluster.profile import Profile
from pipelines.core import ConfigError
from pipelines.read_once import read_share
from trainers.core.engine import (
    SWAP_BUFFERS,
    SWAPPED,
    EngineConfig,
    Offload,
    OptimizerConfig,
    check_together,
)
from trainers.optimizers import parameter_groups
from trainers.recipe import Recipe

_WORD = 4  # bytes of an element
# Elements, of DeepSpeed's defaults: gradients reduced together, and weights that stage 3 keeps
# gathered because they are needed again soon.
_BUCKET, _LIVE = 500_000_000, 1_000_000_000
CONTEXT = 600 << 20  # bytes of a process on a GPU before the first tensor: context and kernels


@dataclass(frozen=True)
class Sizes:
    """Elements of an objective and of what trains it.

    Attributes:
        trained: Parameters that learn.
        frozen: Other parameters and buffers, such as a teacher's.
        moments: Moments of the optimizer.
        averaged: Averages of weights.
    """

    trained: int
    frozen: int
    moments: int
    averaged: int


def sizes_of(objective: nn.Module, optimizer: OptimizerConfig) -> Sizes:
    """Count an objective's elements, before an engine has split them.

    Raises:
        ConfigError: The optimizer does not fit the objective.
    """
    everything = list(chain(objective.parameters(), objective.buffers()))
    trained = sum(p.numel() for p in objective.parameters() if p.requires_grad)
    moments = sum(
        tensor.numel() * len(group["moments"])
        for group in parameter_groups(objective, optimizer)
        for tensor in group["params"]
    )
    frozen = sum(tensor.numel() for tensor in everything) - trained
    return Sizes(trained, frozen, moments, 0 if optimizer.ema is None else trained)


def states(sizes: Sizes, engine: EngineConfig, workers: int, device: str) -> dict[str, int]:
    """Count what a worker holds between and beside activations, as DeepSpeed lays it out.

    From stage 1 on a worker updates a copy of its part of the weights. Stage 3 keeps up to a
    billion weights gathered beside the parts. The bucket of gradients that travel together is
    allocated whole, but on a CPU only what is used of it becomes resident.

    Args:
        sizes: Of the objective.
        engine: Stage, precision, offload.
        workers: Over which states are split.
        device: ``cpu`` or ``cuda``.

    Returns:
        Bytes by name; those under ``host`` are in the host's memory where some are offloaded
        from a GPU, and those under ``disk`` are there.
    """
    stage, offload = engine.zero_stage, engine.offload
    trained, part = sizes.trained, -(-sizes.trained // workers)
    moments = -(-sizes.moments // workers) if stage else sizes.moments
    copies = part if stage else 0
    gradients = part if stage >= 2 else trained
    if stage == 3 and offload.optimizer == "cpu":
        gradients += part  # of the update, beside those that the passes add to
    found = {"optimizer": moments + copies, "host": 0, "disk": 0}
    if stage == 3:
        whole = trained + sizes.frozen
        own = -(-whole // workers)
        found["parameters"] = own + min(whole, _LIVE)
        found["average"] = -(-sizes.averaged // workers)
    else:
        own = 0
        found["parameters"] = trained + sizes.frozen
        found["average"] = sizes.averaged
    if offload.optimizer == "nvme":
        found["disk"] = found["optimizer"]
        found["optimizer"] = SWAP_BUFFERS * min(part, SWAPPED)
    if device == "cuda":
        if offload.optimizer != "none":
            kept = gradients if stage >= 2 else 0
            found["host"] += found["optimizer"] + kept + _buffers(engine, trained, part)
            found["optimizer"], gradients = 0, gradients - kept
        if offload.parameters != "none":
            found["host"] += own + found["average"]
            found["parameters"], found["average"] = found["parameters"] - own, 0
    found["gradients"] = gradients
    bytes_ = {name: _WORD * count for name, count in found.items()}
    return bytes_ | {"bucket": _bucket(trained, engine, workers, device)}


def _buffers(engine: EngineConfig, trained: int, part: int) -> int:
    """Elements on the host beside state and gradients, in the library's stages 1 and 2.

    Updated weights travel from a copy of a worker's part, to which stage 1 adds its gradient; steps
    in parts add gradients of all weights up on every worker.
    """
    if engine.zero_stage not in (1, 2):
        return 0
    return (3 - engine.zero_stage) * part + (trained if engine.accumulate > 1 else 0)


def _bucket(trained: int, engine: EngineConfig, workers: int, device: str) -> int:
    """Bytes of the buffer in which gradients travel; one of each format under autocast."""
    if engine.zero_stage == 0 and workers == 1:  # they stay where they are
        return 0
    if engine.zero_stage == 0 or device == "cpu":
        return _WORD * min(trained, _BUCKET)
    low = 0 if engine.precision == "fp32" else (2 if engine.zero_stage == 3 else _WORD)
    return (_WORD + low) * _BUCKET


@dataclass(frozen=True)
class Trial:
    """Steps with one batch on each worker: samples, median seconds of one, bytes at the peak."""

    batch: int
    seconds: float
    peak: int


@dataclass(frozen=True)
class Measured:
    """What a trial on this machine found.

    Attributes:
        trials: Of the largest batches that were tried, in rising order; one or two, or none
            where the profile's device is not this machine's.
        sizes: Of the objective.
        engine: That the trial had.
        workers: Processes of the trial.
        cores: Of this machine.
        row_bytes: Of a decoded sample.
        decode_seconds: Of reading and decoding a sample on one core, while the other
            processes do the same.
        flops: Operations a sample, forward and backward.
        kept: Bytes of activations that a sample takes on the device of the profile, where that
            is not this machine's; 0 where it is, and trials tell.
        whole: Those of them that a step in parts holds of all its samples, and not of one part.
        epoch: Samples of the data set.
        cached: Bytes that all of them take in a worker's memory, where it keeps what it has read.
    """

    trials: tuple[Trial, ...]
    sizes: Sizes
    engine: EngineConfig
    workers: int
    cores: int
    row_bytes: int
    decode_seconds: float
    flops: float
    kept: float = 0.0
    whole: float = 0.0
    epoch: int = 0
    cached: int = 0

    def seconds(self, batch: int) -> float:
        """Seconds of a step, on the line through the trials."""
        return _line([(t.batch, t.seconds) for t in self.trials], batch)

    @property
    def sample_bytes(self) -> float:
        """Bytes of activations that a further sample takes."""
        first, last = self.trials[0], self.trials[-1]
        steps = last.batch - first.batch
        return max(0, last.peak - first.peak) / steps if steps else 0.0

    @property
    def process(self) -> int:
        """Bytes of a process without states and activations: interpreter and libraries."""
        last = self.trials[-1]
        held = states(self.sizes, self.engine, self.workers, "cpu")
        resident = sum(held.values()) - held["disk"]
        return max(0, round(last.peak - last.batch * self.sample_bytes - resident))


def _line(points: list[tuple[int, float]], at: int) -> float:
    (x0, y0), (x1, y1) = points[0], points[-1]
    if x0 == x1 or y1 <= y0:  # noise: a larger batch is not faster
        return y1 * at / x1
    return y1 + (y1 - y0) / (x1 - x0) * (at - x1)


@dataclass(frozen=True)
class Assumptions:
    """What cannot be measured here.

    Attributes:
        utilisation: Share of the device's peak that is reached.
        peak: Operations a second of a device of the profile that is not on this machine.
        price: Of a device-hour; None where there is none to be named.
    """

    utilisation: float
    peak: float
    price: float | None = None


@dataclass(frozen=True)
class Speed:
    """Samples a second of all workers, what bounds them, and what they were taken from."""

    samples_per_second: float
    compute: float
    reading: float
    bound: str
    basis: str


def memory(
    recipe: Recipe, profile: Profile, measured: Measured, stage: int | None = None
) -> dict[str, int]:
    """Predict the bytes of one worker by what they are for, on its device, and their ``total``.

    On a CPU all of its process counts, and so do the pages of the object store that it has
    looked at, and samples that it keeps. What is on the host of a GPU is not in the total.

    Args:
        recipe: What is learned.
        profile: Where.
        measured: By a trial.
        stage: Of ZeRO; None for the profile's own.
    """
    engine = profile.engine if stage is None else _at(profile.engine, stage)
    local = recipe.global_batch // profile.workers
    found = states(measured.sizes, engine, profile.workers, profile.device)
    if profile.device == "cpu":
        found["activations"] = round(local * measured.sample_bytes)
        found["process"] = measured.process
        found["waiting"] = waiting(recipe, profile, measured)
        found["cache"] = measured.cached
    else:
        found["host"] += measured.cached
        found["process"] = CONTEXT
        low = 0 if engine.precision == "fp32" else 2  # autocast keeps what it has cast
        part = -(-local // engine.accumulate)
        kept = local * measured.whole + part * (measured.kept - measured.whole)
        found["activations"] = round(kept) + low * measured.sizes.trained
    on_device = sum(count for name, count in found.items() if name not in ("host", "disk"))
    return found | {"total": on_device}


def _at(engine: EngineConfig, stage: int) -> EngineConfig:
    """The same under another stage, offloading what that stage can."""
    if stage < 3:
        wanted = engine.offload.optimizer != "none" and stage > 0
        offload = Offload(optimizer="cpu" if wanted else "none")
    else:
        offload = engine.offload
    return EngineConfig.model_validate(
        {**engine.model_dump(), "zero_stage": stage, "offload": offload.model_dump()}
    )


def waiting(recipe: Recipe, profile: Profile, measured: Measured) -> int:
    """Bytes of decoded batches that a worker has from the object store, at most all of its run.

    What it keeps it takes from there once.
    """
    taken = recipe.steps * recipe.global_batch // profile.workers
    if measured.cached:
        taken = min(taken, measured.epoch)
    return min(profile.reader.memory, taken * measured.row_bytes)


def _read_of(recipe: Recipe, profile: Profile, measured: Measured) -> float:
    """Share of all samples that are read, where others come from a worker's memory."""
    if not measured.cached:
        return 1.0
    return read_share(profile.workers, recipe.steps * recipe.global_batch / measured.epoch)


def by_stage(
    recipe: Recipe, profile: Profile, measured: Measured
) -> Iterator[tuple[int, Mapping[str, int]]]:
    """Predict memory under each stage that the optimizer works under."""
    for stage in range(4):
        try:
            check_together(recipe.optimizer, _at(profile.engine, stage))
        except ConfigError:
            continue
        yield stage, memory(recipe, profile, measured, stage)


def speed(recipe: Recipe, profile: Profile, measured: Measured, assumptions: Assumptions) -> Speed:
    """Predict samples a second.

    On a CPU readers and workers share the cores, so a batch costs what it takes to decode and
    what it takes to train, one after the other. Beside a GPU they do not, and the slower one
    counts; then readers have the cores of one machine like this. What workers keep is read once.
    """
    read = _read_of(recipe, profile, measured)
    decode = measured.decode_seconds / measured.cores
    if profile.device == "cpu":
        local = recipe.global_batch // profile.workers
        # Workers beyond those that were tried share the same cores.
        crowd = profile.workers / measured.workers
        step = measured.seconds(local) * crowd / recipe.global_batch
        rate = 1 / (step + read * decode)
        bound = "compute" if step > read * decode else "reading"
        return Speed(rate, 1 / step, 1 / decode, bound, "steps measured on this machine")
    compute = profile.workers * assumptions.peak * assumptions.utilisation / measured.flops
    reads_longer = compute * decode > 1 and read * decode > (1 - read) / compute
    bound = "reading" if reads_longer else "compute"
    basis = (
        f"{measured.flops / 1e9:.2f} GFLOP a sample, and an assumed "
        f"{100 * assumptions.utilisation:.0f} % of {assumptions.peak / 1e12:.0f} TFLOP/s a device"
    )
    rate = 1 / (read * max(1 / compute, decode) + (1 - read) / compute)
    return Speed(rate, compute, 1 / decode, bound, basis)


@dataclass(frozen=True)
class Prediction:
    """What a run will take.

    Attributes:
        stage: Of ZeRO, the profile's own.
        memory: Bytes of a worker by purpose under each stage that the optimizer works under.
        local_batch: Samples of a step on a worker.
        speed: Samples a second, and why.
        samples: Of the whole run.
        seconds: Of training; what it takes to start, commit and evaluate is not in it.
        device_hours: The same, times the number of workers.
        cost: By the price of a device-hour, every worker on a device of its own.
    """

    stage: int
    memory: Mapping[int, Mapping[str, int]]
    local_batch: int
    speed: Speed
    samples: int
    seconds: float
    device_hours: float
    cost: float | None


def predict(
    recipe: Recipe, profile: Profile, measured: Measured, assumptions: Assumptions
) -> Prediction:
    """Predict a run from a trial's facts.

    Args:
        recipe: What is learned.
        profile: Where.
        measured: By ``cluster.probe.probe``.
        assumptions: About what was not measured.
    """
    found = speed(recipe, profile, measured, assumptions)
    samples = recipe.steps * recipe.global_batch
    seconds = samples / found.samples_per_second
    hours = seconds / 3600 * profile.workers
    return Prediction(
        profile.engine.zero_stage,
        dict(by_stage(recipe, profile, measured)),
        recipe.global_batch // profile.workers,
        found,
        samples,
        seconds,
        hours,
        None if assumptions.price is None else hours * assumptions.price,
    )
