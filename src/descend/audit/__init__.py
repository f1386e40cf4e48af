"""What a data set holds that its owner should know before training on it: files, copies, classes, shapes, colors, labels."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
