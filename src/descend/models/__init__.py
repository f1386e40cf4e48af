"""Backbones: networks that turn a picture into a feature vector, cut into named stages.

``backbone("lite0").build(seed)`` gives a ``Backbone``; the pretrained one comes from a pip package, every other timm model
by its name, and the small networks for small pictures are written out to be read.

>>> import torch
>>> from descend.models import backbone
>>> backbone("smallcnn").build(seed=0)(torch.zeros(2, 3, 32, 32)).shape
torch.Size([2, 128])
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
