"""Data augmentation: draw factors for a batch, compose them, apply them to the pixels once.

``Pipeline(["random_resized_crop()", "flip()", "color_jitter()"], seed=0, size=224)`` is the whole interface; ``factors`` says
what a draw is, ``apply`` what it means in pixels.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
