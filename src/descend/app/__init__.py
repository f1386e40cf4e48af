"""A local page around runs: try them on pictures, compare them, train others, and correct labels. ``descend app`` serves it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
