"""Optimizers: each rule written once, one ``torch.optim.Optimizer`` for all of them, and what happens to gradients on the way."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
