"""timm, imported in a third of its time: without torch's tracer, which a process that compiles nothing never needs."""

from descend.untraced import tracer_deferred

with tracer_deferred():
    import timm

__all__ = ["timm"]
