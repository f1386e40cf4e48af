"""Transfer: reuse what a network learned on other pictures; what stays frozen is computed once, fast, and kept on disk."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
