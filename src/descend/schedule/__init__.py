"""Learning-rate decay: pure functions from progress in [0, 1] to a factor on the learning rate."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
