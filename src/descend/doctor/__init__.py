"""Is this training sound? Quick checks of a run that is about to be made, each with what it saw, its figures and the fix."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
