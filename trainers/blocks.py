"""Blocks of towers, found by how models are written: the members of an outermost module list."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from pipelines.core import ConfigError

_SIZES = 64  # of the blocks of one class, over all towers, views and modes


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Find the members of outermost module lists that learn.

    A transformer's layers and a convolutional tower's stages are such lists; a teacher's
    are left out, since it does not learn.
    """
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from (block for block in child if learns(block))
        else:
            yield from blocks(child)


def learns(module: nn.Module) -> bool:
    """Whether any of its parameters is trained."""
    return any(parameter.requires_grad for parameter in module.parameters())


def checkpoint_blocks(module: nn.Module) -> None:
    """Keep the inputs of each block alone, and run it again in the backward pass.

    Random numbers are drawn alike both times. The method is of Chen et al., 2016
    (arXiv:1604.06174).

    Raises:
        ConfigError: There are no blocks.
    """
    found = list(blocks(module))
    if not found:
        raise ConfigError(
            "engine.checkpoint_activations: no tower of this objective has blocks; set it to false"
        )
    for block in found:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def compile_parts(module: nn.Module, device: torch.device) -> None:
    """Compile the blocks of an objective that learn, and as a whole its parts without any.

    Blocks alike are compiled once, which takes a fraction of the time that a whole tower
    does; names of parameters stay as they are. Members of a sequence are called by themselves
    as well, such as a tower without its head.

    Raises:
        ConfigError: There is no compiler of C++, which compiling needs on any device.
    """
    compiler = os.environ.get("CXX", "g++" if device.type == "cuda" else "")
    candidates = [compiler] if compiler else ["g++", "clang++"]
    if not any(shutil.which(name) for name in candidates):
        raise ConfigError(
            f"engine.compile needs a C++ compiler, and there is no {' or '.join(candidates)}; "
            "install one, or set it to false"
        )
    compile_by(module, "inductor")


def compile_by(module: nn.Module, backend: str) -> None:
    """Compile the same parts by any of Dynamo's backends."""
    # Blocks of one class share what is compiled, and each size of theirs is one.
    torch._dynamo.config.recompile_limit = _SIZES
    for part in _compiled(module):
        part.compile(dynamic=False, backend=backend)


def _compiled(module: nn.Module) -> Iterator[nn.Module]:
    for part in module.children():
        members = part if isinstance(part, nn.Sequential) else ()
        found = list(blocks(nn.ModuleDict({"part": part})))
        if found:
            yield from found
        else:
            yield from (called for called in (part, *members) if learns(called))
