"""Regularization: penalties, the drop layers and their test-time averages, norm policies, and the one loss.

Each technique is usable three ways: as a function or layer in anyone's PyTorch model, put into a given model by
``install``, and by its spec text (``"dropout(p=0.2)"``) wherever a recipe is written.

>>> import torch
>>> from descend.regularize import cross_entropy
>>> round(cross_entropy(torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([0]), smoothing=0.1).item(), 4)
0.3729
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
