"""descend: train the best image classifier that the time allows, and measure what each training technique bought.

``descend.fit``, ``descend.resume`` and ``descend.load`` do the main job; the packages (``descend.optim``,
``descend.augment``, ...) and the errors are reached from here too. Everything is imported when it is first used: ``import
descend`` alone loads neither torch nor pydantic.

>>> import descend
>>> descend.optim.AdamW(lr=0.003)
AdamW(lr=0.003, beta1=0.9, beta2=0.999, eps=1e-08, weight_decay=0.01)
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.1.0"  # the one place; the build backend reads it from here
