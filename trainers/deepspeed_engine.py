"""DeepSpeed engine: ZeRO stages 0 to 3 under one interface."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pipelines.core import UserError
from pipelines.core.batch import Batch
from trainers.accumulation import Passes, accumulate
from trainers.blocks import checkpoint_blocks, compile_parts
from trainers.core.engine import (
    SWAP_BUFFERS,
    SWAPPED,
    EngineConfig,
    OptimizerConfig,
    StepOutput,
)
from trainers.core.objective import LossOutput, Objective
from trainers.core.phases import Phases
from trainers.ema import Averages
from trainers.loss_scale import LossScale
from trainers.optimizers import build_optimizer, set_rate
from trainers.swap import SwapFolder, check_lockable
from trainers.swapped import group_size, keep_gradients

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("DS_IGNORE_CUDA_DETECTION", "1")


@contextmanager
def _left_out(module: str) -> Iterator[None]:
    """Let a module be missing to what is imported meanwhile, if it has not been imported yet."""
    here = module in sys.modules
    if not here:
        sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if not here:
            del sys.modules[module]


# The library's tuner, which nobody calls, imports mlflow where it is installed: for seconds.
with warnings.catch_warnings(), _left_out("mlflow"):
    warnings.simplefilter("ignore")  # deprecations inside the library, at import
    import deepspeed
    from deepspeed.runtime.torch_autocast import PARAM_COMM_DTYPE_ATTR_NAME, has_comm_dtype

    from trainers.deepspeed_state import Trained, load_state, save_state

# At every use of collectives that the library calls by the names they had.
warnings.filterwarnings(
    "ignore", r"`torch\.distributed\.(all_gather_into|reduce_scatter)_tensor`", FutureWarning
)
_WORD = 4  # bytes of what is updated
_FORMATS = {"fp32": "bfloat16", "bf16": "bfloat16", "fp16": "float16"}  # of autocast, where on


class _Root(nn.Module):
    """What the library wraps: any method of an objective may be called within its hooks."""

    def __init__(self, objective: Objective):
        super().__init__()
        self.objective = objective

    def forward(self, work: Callable[[], None]) -> None:
        work()


class DeepSpeedEngine:
    """Trains an objective over the workers of the current process group.

    Args:
        objective: What to train; its parameters are broadcast from worker 0.
        optimizer: What updates it, how fast, and the average of its weights.
        config: Stage, precision, and what is spared of memory.
        local_batch: Samples of a step on this worker.
        device: Where to train.

    Raises:
        UserError: What lies on a disk cannot be reached there.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: OptimizerConfig,
        config: EngineConfig,
        local_batch: int,
        device: torch.device,
    ):
        self.objective = objective
        self.device = device
        self.phases = Phases(device)
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self._config, self._clip = config, optimizer.clip
        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
        if device.type == "cpu":
            # Gloo does the communication; the library's own operator would need a compiler.
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        if config.checkpoint_activations:
            checkpoint_blocks(objective)
        if config.compile:
            compile_parts(objective, device)
        host = device if config.offload.optimizer == "none" else torch.device("cpu")
        swaps = config.offload.optimizer == "nvme"
        self._swap = _swap_folder(config, objective) if swaps else None
        self._engine = deepspeed.initialize(
            model=_Root(objective),
            optimizer=build_optimizer(objective, optimizer, host),
            config=self._settings(local_batch),
            dist_init_required=False,
        )[0]
        if swaps:
            keep_gradients(self._engine.optimizer)
        self._scale = LossScale() if config.precision == "fp16" else None
        self._last_norm = torch.zeros((), device=device)
        self._take_over_scaling()
        if self.world_size == 1 and config.zero_stage == 0:
            # The gradient is whole; the library would copy it to and from one buffer.
            self._engine.enable_backward_allreduce = False
        decay = optimizer.ema
        self._averages = None if decay is None else Averages(objective, decay, device)
        self._keep_small_exact()

    def _keep_small_exact(self) -> None:
        """Have small parameters in full precision under stage 3, whoever gathers them.

        The library keeps them whole after an update, but whoever finds them in shards, as the first
        pass of a run that goes on, gathers them in the format of autocast.
        """
        optimizer = self._engine.optimizer
        for parameter in getattr(optimizer, "persistent_parameters", ()):
            # Their gradients are then added up in full precision, where any are.
            if has_comm_dtype(parameter) and parameter.dtype in optimizer.ipg_buckets:
                delattr(parameter, PARAM_COMM_DTYPE_ATTR_NAME)

    def _take_over_scaling(self) -> None:
        # The library's scalers for autocast look at each worker's shards alone, clip by the
        # scaled norm, and are never told of an overflow.
        if self._clips_itself:
            self._engine.torch_autocast_z0_gradscaler = None
            return
        self._engine.optimizer.torch_autocast_gradscaler = None
        if self._scale:
            self._engine.optimizer.loss_scaler = self._scale

    @property
    def _clips_itself(self) -> bool:
        # Without a ZeRO wrapper the library clips but keeps the norm to itself.
        return self._config.zero_stage == 0

    def _settings(self, local_batch: int) -> dict[str, Any]:
        offload = self._config.offload
        return {
            "train_micro_batch_size_per_gpu": local_batch // self._config.accumulate,
            "gradient_accumulation_steps": self._config.accumulate,
            "gradient_clipping": 0.0 if self._clips_itself else self._clip,
            "zero_optimization": {
                "stage": self._config.zero_stage,
                "offload_optimizer": {"device": offload.optimizer, **self._swapping},
                "offload_param": {"device": offload.parameters},
                **({"sub_group_size": SWAPPED} if self._swap else {}),
            },
            "zero_allow_untested_optimizer": True,
            # Torch's fused AdamW is as good on a CPU, and needs no compiler.
            "zero_force_ds_cpu_optimizer": False,
            # Not the library's bf16 and fp16 sections: they have inputs cast by the caller, and
            # keep losses in that format; under autocast all but products stays in fp32.
            "torch_autocast": {
                "enabled": self._config.precision != "fp32",
                "dtype": _FORMATS[self._config.precision],
            },
            "steps_per_print": 1 << 60,
            # The library's own clock empties a GPU's queue twice a step.
            "timers": {"throughput": {"enabled": False}},
        }

    @property
    def _swapping(self) -> dict[str, Any]:
        if self._swap is None:
            return {}
        return {"nvme_path": str(self._swap.path), "buffer_count": SWAP_BUFFERS}

    def step(self, batch: Batch, learning_rate: float) -> StepOutput:
        """Forward, backward and update."""
        parts = self._config.accumulate
        self._engine.set_gradient_accumulation_boundary(parts == 1)
        scale = self._scale.cur_scale if self._scale else 1.0
        passes = Passes(self.phases, self._forward, self._backward, scale)
        output = accumulate(self.objective, batch, parts, passes)
        with self.phases("backward"):
            self._reduce()
        with self.phases("optimizer"):
            norm = self._update(learning_rate)
        return self._settle(self._scale, output, norm) if self._scale else StepOutput(output, norm)

    def _forward(self, work: Callable[[], Any]) -> Any:
        found: list[Any] = []
        self._engine(lambda: found.append(work()))
        return found[0]

    def _backward(self, loss: Tensor) -> None:
        if self._scale and self._clips_itself:
            loss = self._scale.scale_loss(loss)
        self._engine.backward(loss, scale_wrt_gas=False)

    def _reduce(self) -> None:
        """End a step in parts: its gradient is the sum of all backward passes.

        Left to itself the library ends a step with the last backward pass. With offload it then
        takes up that pass's parameters alone, and those of a comparison had theirs in the first.
        """
        if self._engine.is_gradient_accumulation_boundary():
            return
        self._engine.set_gradient_accumulation_boundary(True)
        if self._config.zero_stage >= 2:
            self._engine.optimizer.finalize_gradient_accumulation_boundary()
        elif self._engine.enable_backward_allreduce:
            self._engine.allreduce_gradients()

    def _update(self, learning_rate: float) -> Tensor:
        norm = self._clip_here() if self._clips_itself else None
        set_rate(self._engine.optimizer, learning_rate)
        self._engine.step()
        if norm is None:
            norm = torch.as_tensor(self._engine.get_global_grad_norm() or 0.0)
        # An update that fp16 leaves out is none to be averaged.
        if self._averages and not (self._scale and not norm.isfinite()):
            self._averages.update()
        return norm

    def _clip_here(self) -> Tensor:
        limit = self._clip or float("inf")
        parameters = [p for p in self.objective.parameters() if p.grad is not None]
        if self._scale:
            gradients = [p.grad for p in parameters if p.grad is not None]
            torch._foreach_mul_(gradients, 1 / self._scale.cur_scale)
        norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
        if self._scale and not norm.isfinite():
            for parameter in parameters:
                parameter.grad = None  # so that the update passes it by
        return norm

    def _settle(self, scale: LossScale, output: LossOutput, norm: Tensor) -> StepOutput:
        """Adapt the loss's scale, and tell an overflow from a gradient that is really infinite."""
        overflow = not norm.isfinite()
        if not overflow or scale.cur_scale == 1:
            self._last_norm = norm
        scale.settle(overflow)
        counted = torch.tensor(float(overflow), device=output.loss.device)
        output = LossOutput(output.loss, {**output.metrics, "overflow": counted})
        return StepOutput(output, self._last_norm)

    def mean(self, values: Tensor) -> Tensor:
        """Average over workers."""
        if self.world_size == 1:  # a collective of one would still go through other threads
            return values
        summed = values.to(self.device)  # where they talk to one another
        dist.all_reduce(summed)
        return summed.div_(self.world_size).to(values.device)

    def weights(self) -> dict[str, Tensor]:
        """All parameters and buffers, whole, on worker 0; every worker must call it.

        Where weights are averaged, they are the averages.
        """
        averages = self._averages
        if self._config.zero_stage < 3:
            state = self.objective.state_dict
            return averages.weights(self.objective) if averages else dict(state())
        # One after the other, and off the device: together they may not fit on it.
        whole = {}
        for name, value in self.objective.state_dict(keep_vars=True).items():
            with self._gathered(value) as gathered:
                if self.rank == 0:
                    whole[name] = gathered.detach().to("cpu", copy=True)
        return whole

    @contextmanager
    def _gathered(self, value: Tensor) -> Iterator[Tensor]:
        """A parameter or its average, whole while the body runs; a buffer as it is."""
        if self._averages and (name := self._averages.name_of(value)):
            yield self._averages.whole(name)
        elif hasattr(value, "ds_tensor"):
            with deepspeed.zero.GatheredParameters([value], modifier_rank=None):
                yield value
        else:
            yield value

    @property
    def _trained(self) -> Trained:
        return Trained(self.objective, self._engine.optimizer, self._averages, self._scale)

    def save(self, folder: Path) -> None:
        """Write this worker's part of weights, moments and buffers; every worker must call it."""
        save_state(self._trained, self.rank, self.world_size, folder)

    def load(self, folder: Path) -> None:
        """Read what ``save`` wrote, on any number of workers and under any ZeRO stage."""
        load_state(self._trained, self.rank, folder)


def _swap_folder(config: EngineConfig, objective: Objective) -> SwapFolder:
    """A place for an optimizer on a disk, if this machine can do that: the library would not say.

    Raises:
        UserError: What it needs is missing.
    """
    from deepspeed.ops.op_builder import AsyncIOBuilder
    from torch.utils.cpp_extension import CUDA_HOME

    toolkit = CUDA_HOME is not None or not torch.cuda.is_available()
    if not toolkit or not AsyncIOBuilder().is_compatible():
        raise UserError(
            "offload.optimizer nvme: reading a disk past the system's cache needs libaio, a C++ "
            "compiler and, for a GPU, CUDA's toolkit on every node (Debian: apt install libaio-dev "
            "g++)"
        )
    workers = dist.get_world_size()
    check_lockable(SWAP_BUFFERS * _WORD * group_size(objective, workers, SWAPPED))
    trained = sum(p.numel() for p in objective.parameters() if p.requires_grad)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    kept = SWAP_BUFFERS - 1  # all but gradients
    return SwapFolder(config.offload.folder, kept * _WORD * here * -(-trained // workers))
