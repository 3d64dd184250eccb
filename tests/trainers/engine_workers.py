"""DeepSpeed engines in processes of their own: what they are asked for, trained, saved, resumed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import gc

gc.disable()  # what is imported stays

import json, os, sys
from contextlib import contextmanager
from pathlib import Path
import torch
import torch.distributed as dist
from pipelines.core.batch import Batch
from trainers.blocks import blocks
from trainers.core.collective import gather_objects
from trainers.core.engine import EngineConfig, OptimizerConfig
from trainers.deepspeed_engine import DeepSpeedEngine, deepspeed
from trainers.objectives import OBJECTIVES
from tests.trainers.conftest import AROUND, SMALL_TOWERS, random_batch

rank, port, out = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
workers = int(os.environ["WORLD_SIZE"])
torch.set_num_threads(1)
dist.init_process_group("gloo", rank=rank, world_size=workers,
                        init_method=f"tcp://127.0.0.1:{port}")

STOP, END = 4, 6  # steps before a commit, and in all

ENGINE = {"bf16": {"precision": "bf16"}, "fp16": {"precision": "fp16"},
          "blocks": {"checkpoint_activations": True}, "compile": {"compile": True},
          "parts2": {"accumulate": 2}, "parts4": {"accumulate": 4},
          "host": {"offload": {"optimizer": "cpu"}},
          "host2": {"offload": {"optimizer": "cpu", "parameters": "cpu"}}}
OPTIMIZER = {"lamb": {"kind": "lamb"}, "muon": {"kind": "muon"}, "ema": {"ema": 0.9},
             "rates": {"rates": {"image.0.*": 0.5}, "no_decay": ["text.*"]}}

def merged(table, names):
    return {k: v for name in names if name in table for k, v in table[name].items()}

def engine(stage, options, kind, seed=0):
    config = EngineConfig(zero_stage=stage, **merged(ENGINE, options))
    optimizer = OptimizerConfig(clip=0.5, **merged(OPTIMIZER, options))
    torch.manual_seed(seed)
    options = {k: v for k, v in SMALL_TOWERS.items()
               if k in OBJECTIVES.get(kind).config.model_fields}
    objective = OBJECTIVES.build(OBJECTIVES.parse({"kind": kind, **options}), AROUND)
    return DeepSpeedEngine(objective, optimizer, config, 8 // workers, torch.device("cpu"))

def share(objective, seed):
    batch = random_batch(objective, 8, 16, seed)
    part = slice(rank * 8 // workers, (rank + 1) * 8 // workers)
    return Batch(batch.samples[part], batch.keys[part],
                 {name: view[part] for name, view in batch.views.items()})

def steps(made, first, last):
    rows = []
    for number in range(first, last):
        result = made.step(share(made.objective, number), 1e-3)
        made.objective.after_step((number + 1) / END)
        loss = made.mean(result.output.loss.detach().clone().view(1))
        skipped = float(result.output.metrics.get("overflow", 0))
        rows.append([loss.item(), float(result.grad_norm), skipped])
    return rows

def counted(module):
    # Parts without parts: a hook of a block itself runs outside of what is done twice.
    calls = {}
    for name, part in module.named_modules():
        if not list(part.children()):
            part.register_forward_pre_hook(
                lambda *_, name=name: calls.update({name: calls.get(name, 0) + 1}))
    return calls

def largest(made):
    return max(getattr(p, "ds_numel", p.numel()) for p in made.objective.parameters())

@contextmanager
def gathering():
    # Elements that are gathered at once, each time.
    sizes, whole = [], deepspeed.zero.GatheredParameters
    def watched(parameters, *given, **options):
        sizes.append(sum(p.ds_numel for p in parameters))
        return whole(parameters, *given, **options)
    deepspeed.zero.GatheredParameters = watched
    try:
        yield sizes
    finally:
        deepspeed.zero.GatheredParameters = whole

def graphs():
    dynamo = sys.modules.get("torch._dynamo.utils")
    return dynamo.counters["stats"]["unique_graphs"] if dynamo else 0

def evidence(made):
    library = made._engine.optimizer
    base = getattr(library, "optimizer", library)
    learned = [p for p in made.objective.parameters() if p.requires_grad]
    return {
        "learned": sum(getattr(p, "ds_numel", p.numel()) for p in learned),
        "kept": sum(p.ds_tensor.numel() if hasattr(p, "ds_tensor") else p.numel()
                    for p in learned),
        "moments": sum(v["exp_avg"].numel() for v in base.state.values() if "exp_avg" in v),
        "gradients": bool(getattr(library, "partition_gradients", False)),
        "optimizer_on_host": bool(getattr(library, "cpu_offload", False)
                                  or getattr(library, "offload_optimizer", False)),
        "parameters_on_host": bool(getattr(library, "offload_param", False)),
        "compiled": sum(b._compiled_call_impl is not None for b in blocks(made.objective)),
        "blocks": len(list(blocks(made.objective))),
        "graphs": graphs(),
    }

# Stage 3 collects garbage each time an engine is made: not among what was imported.
gc.freeze()
gc.enable()
found = {}
for name in sys.argv[4:]:
    name, _, origin = name.partition("@")
    kind, stage, *options = name.split(":")
    stage = int(stage)
    if origin:
        made = engine(stage, options, kind, seed=1)
        made.load(Path(origin))
        name = f"{name}@{Path(origin).name}"
        folder = out / name
        folder.mkdir(exist_ok=True)
        dist.barrier()
        made.save(folder)
        found[name] = {"resumed": steps(made, STOP, END)}
        continue
    made = engine(stage, options, kind)
    early = out / f"{name}-before"
    if "early" in options:
        early.mkdir(exist_ok=True)
        dist.barrier()
        made.save(early)
    if "low" in options:
        made._scale.state = 2.0**8, 0.0
    watched = kind == "clip" and "compile" not in options
    encoded = counted(made.objective.image[1]) if watched else {}
    ran = counted(next(blocks(made.objective.image))) if watched else {}
    rows = steps(made, 0, STOP)
    seen = {"encoded": [n / STOP for n in encoded.values()],
            "ran": [n / STOP for n in ran.values()],
            **evidence(made)}
    folder = out / name
    folder.mkdir(exist_ok=True)
    dist.barrier()
    made.save(folder)
    dist.barrier()
    files = sorted(p.name for p in folder.rglob("*"))
    with gathering() as gathered:
        weights = {k: v.clone() for k, v in made.weights().items()}
    seen["gathered"], seen["largest"] = max(gathered, default=0), largest(made)
    seen["weights"] = gather_objects(len(weights))
    went_on = steps(made, STOP, END)
    other = engine(stage, options, kind, seed=1)
    other.load(folder)
    resumed = steps(other, STOP, END)
    found[name] = {"rows": rows, "seen": seen, "went_on": went_on, "resumed": resumed,
                   "files": files,
                   "weights": {k: [float(v.double().sum()), v.numel()]
                               for k, v in weights.items()}}
    if stage == 3 and ({"bf16", "fp16"} & set(options) or not options):
        straight = engine(stage, options, kind)
        if "low" in options:
            straight._scale.state = 2.0**8, 0.0
        found[name]["straight"] = steps(straight, 0, END)[STOP:]
    if "early" in options:
        other = engine(stage, options, kind, seed=1)
        other.load(early)
        found[name]["anew"] = steps(other, 0, STOP)
    if "low" in options:
        made._scale.state = 1.0, 0.0
        if stage < 3:  # where parameters are whole
            for parameter in made.objective.parameters():
                parameter.data.fill_(float("nan"))
            found[name]["broken"] = steps(made, END, END + 1)
if rank == 0:
    (out / f"found-{workers}.json").write_text(json.dumps(found))
dist.destroy_process_group()
"""


def launch(workers: int, out: Path, names: list[str]) -> dict[str, dict[str, object]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Files, since a worker whose pipe is full waits for who is waiting for another worker.
    logs = [out / f"log-{rank}.txt" for rank in range(workers)]
    processes = []
    for rank, log in enumerate(logs):
        environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": workers}
        with log.open("w") as output:
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-c", SCRIPT, str(rank), str(port), str(out), *names],
                    env={**os.environ, **{k: str(v) for k, v in environment.items()}},
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=Path(__file__).parents[2],
                )
            )
    codes = [process.wait(timeout=480) for process in processes]
    assert not any(codes), "\n".join(log.read_text() for log in logs)[-3000:]
    found: dict[str, dict[str, object]] = json.loads((out / f"found-{workers}.json").read_text())
    return found
