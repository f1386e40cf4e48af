"""Changing what an existing module computes by giving its object a subclass of its own class.

The module keeps its identity, its parameters, their names and every ``isinstance`` that held before. Classes that are made at
run time can be neither pickled nor copied by their name, so each object says how its class is made again.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import nn


def become(module: nn.Module, mixin: type) -> None:
    """Give ``module`` the class ``subclass(type(module), mixin)``: its methods are those of ``mixin`` first."""
    module.__class__ = subclass(type(module), mixin)


@cache
def subclass(kind: type[nn.Module], mixin: type) -> type[nn.Module]:
    """Return the subclass of ``kind`` in which ``mixin`` comes first; the same class for the same arguments.

    >>> from torch import nn
    >>> from descend.regularize.subclassing import subclass
    >>> class Doubled:
    ...     def forward(self, x):
    ...         return 2 * super().forward(x)
    >>> subclass(nn.ReLU, Doubled).__name__
    'DoubledReLU'
    """
    namespace = {"__module__": mixin.__module__, "__doc__": mixin.__doc__, "__reduce_ex__": _reduced, "_made_of": (kind, mixin)}
    return type(mixin.__name__.strip("_") + kind.__name__, (mixin, kind), namespace)


def _reduced(self: Any, protocol: Any) -> tuple[Any, ...]:
    """Return what pickle and copy need to make the object again."""
    _, _, *state = object.__reduce_ex__(self, max(int(protocol), 2))
    return _empty, type(self)._made_of, *state


def _empty(kind: type[nn.Module], mixin: type) -> nn.Module:
    cls = subclass(kind, mixin)
    return cls.__new__(cls)
