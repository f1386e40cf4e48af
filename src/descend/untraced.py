"""Functions that ``torch.compile`` leaves as they are, in processes that may never compile anything.

Dynamo, the tracer, takes seconds to import, and both of torch's own ways to say "do not trace this" import it:
``torch.compiler.disable`` at once, ``torch._compile._disable_dynamo`` at the first call, which every ``torch.optim.Optimizer``
makes when it is built. Here the tracer is asked only where something else has loaded it: before that nothing can be traced.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch._compile import _disable_dynamo

P = ParamSpec("P")
R = TypeVar("R")
_LAYER = _disable_dynamo(lambda: None).__code__  # what torch wraps around its own


def untraced(function: Callable[P, R]) -> Callable[P, R]:
    """Keep ``torch.compile`` from tracing ``function``: it breaks the graph there and calls the function as it is."""
    disabled: Callable[P, R] | None = None

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        nonlocal disabled
        if disabled is None and "torch._dynamo" in sys.modules:
            disabled = cast(Callable[P, R], torch.compiler.disable(function))
        return (disabled or function)(*args, **kwargs)

    return call


def without_import(method: Callable[P, R]) -> Callable[P, R]:
    """Return a method that torch itself keeps from being traced, ``untraced`` in our way; any other as it is."""
    wrapped: Any = method
    return untraced(wrapped.__wrapped__) if getattr(method, "__code__", None) is _LAYER else method
