"""Functions of tensors that a GPU runs in one pass over memory."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import shutil
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

_log = logging.getLogger(__name__)
_WHOLE = 1 << 20  # operations: more than any function here has
Work = TypeVar("Work", bound=Callable[..., Any])


def fused(work: Work) -> Work:
    """Compile a function for GPUs; on a CPU it is called as it is.

    Where each operation reads and writes all pixels, memory is what takes the time. What is
    computed on the way is not kept but computed anew where it is needed, so a function ends
    where that would cost more than to write it down.

    Args:
        work: Of tensors and plain values, to a tensor or several. It is compiled anew for other
            shapes and plain values: it should be called with few.
    """

    @functools.wraps(work)
    def call(*values: Any) -> Any:
        on_gpu = any(isinstance(value, Tensor) and value.is_cuda for value in values)
        return (_compiled(work) if on_gpu else work)(*values)

    return call  # type: ignore[return-value]


@functools.cache
def _compiled(work: Callable[..., Any]) -> Callable[..., Any]:
    if lacks():
        _log.warning("no %s: views are made on the GPU several times slower", lacks())
        return work
    whole: dict[str, Any] = {
        "realize_reads_threshold": _WHOLE,
        "realize_opcount_threshold": _WHOLE,
    }
    return torch.compile(work, dynamic=False, options=whole)


@functools.cache
def lacks() -> str:
    """What compiling for a GPU needs and is not here."""
    compilers = [os.environ.get("CXX", ""), "g++", "clang++"]
    if not any(shutil.which(name) for name in compilers if name):
        return "C++ compiler"
    return "" if importlib.util.find_spec("triton") else "triton"
