"""Optimizers: each rule written once, one ``torch.optim.Optimizer`` for all of them, and what happens to gradients on the way.

>>> import torch
>>> from descend.optim import AdamW, Optimizer
>>> model = torch.nn.Linear(4, 2)
>>> optimizer = Optimizer(model.parameters(), AdamW(lr=0.003), gradients="clip_norm(max_norm=1.0)")
>>> model(torch.ones(1, 4)).sum().backward()
>>> optimizer.step()
>>> round(optimizer.gradient_norm, 3)
3.162
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
